// Messages over a pipe of our own, in both directions. A frame is a mark, the length of what follows (each
// a uint32, little-endian), and the message by structured clone, so bigint and typed arrays pass. Whatever
// else comes is no message: the reader throws where its owner can catch it, and the owner ends the process.

import type { Duplex } from 'node:stream'
import { DefaultSerializer, deserialize } from 'node:v8'

/** Its file descriptor in the engine process. */
export const messagePipe = 3
/** No message is as long; beyond it a length is taken for damage. */
export const maxFrameBytes = 256 << 20
const headerBytes = 8
const mark = 0x59545544 // "DUTY"

/** Throws where the message cannot be cloned, or is too long. */
export function encodeFrame(message: unknown): Buffer {
  const serializer = new DefaultSerializer()
  serializer.writeRawBytes(new Uint8Array(headerBytes))
  serializer.writeHeader()
  serializer.writeValue(message)
  const frame = serializer.releaseBuffer()
  const length = frame.length - headerBytes
  if (length > maxFrameBytes) throw new RangeError(`a message of ${length} bytes is too long`)
  frame.writeUInt32LE(mark, 0)
  frame.writeUInt32LE(length, 4)
  return frame
}

/** Takes the pipe's chunks, wherever they are cut. Throws at the first byte that is of no frame. */
export function createFrameReader(onMessage: (message: unknown) => void) {
  let pieces: Buffer[] = []
  let numBytes = 0
  /** Until so many bytes are there, there is no frame to read. */
  let numWanted = headerBytes
  return function read(chunk: Buffer): void {
    pieces.push(chunk)
    numBytes += chunk.length
    if (numBytes < numWanted) return
    const bytes = pieces.length === 1 ? chunk : Buffer.concat(pieces)
    let from = 0
    for (;;) {
      const end = frameEnd(bytes, from)
      numWanted = end - from
      if (end > bytes.length) break
      onMessage(deserialize(bytes.subarray(from + headerBytes, end)))
      from = end
    }
    pieces = from === bytes.length ? [] : [bytes.subarray(from)]
    numBytes = bytes.length - from
  }
}

/** Where the frame ends that begins there; where its header does, if that is not whole. */
function frameEnd(bytes: Buffer, from: number): number {
  if (bytes.length - from < headerBytes) return from + headerBytes
  const length = bytes.readUInt32LE(from + 4)
  if (bytes.readUInt32LE(from) !== mark) throw new RangeError('bytes that are no message')
  if (length > maxFrameBytes) throw new RangeError(`a message of ${length} bytes`)
  return from + headerBytes + length
}

export interface MessagePipeEvents<In> {
  readonly onMessage: (message: In) => void
  /** What came is no message, or could not be taken. Told once; nothing is read any more. */
  readonly onBroken: (error: unknown) => void
  /** After the last message. */
  readonly onClosed: () => void
}

export interface MessagePipe {
  readonly isOpen: boolean
  /** Throws where the message cannot be copied. `onSent` is told when it is in the pipe. */
  send(message: unknown, onSent?: (error?: Error | null) => void): void
  /** The other side hears of it after what was sent. */
  end(): void
}

export function openMessagePipe<In>(
  stream: Duplex,
  { onMessage, onBroken, onClosed }: MessagePipeEvents<In>,
): MessagePipe {
  let isBroken = false
  const read = createFrameReader((message) => onMessage(message as In))
  stream.on('data', (chunk: Buffer) => {
    if (isBroken) return
    try {
      read(chunk)
    } catch (error) {
      isBroken = true
      onBroken(error)
    }
  })
  stream.on('error', () => {}) // Its close says it.
  stream.on('close', onClosed)
  return {
    get isOpen() {
      return stream.writable
    },
    send: (message, onSent) => void stream.write(encodeFrame(message), onSent),
    end: () => void stream.end(),
  }
}
