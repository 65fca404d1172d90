// Reads a GGUF header from front to back through a small window. Every length is held against what
// is left of the file, and against the longest header accepted, before anything is allocated.

import { readableBytes } from '../contracts/bytes.ts'

/** How a rule that was broken is thrown; the message is one clause without a full stop. */
export type Fail = (message: string) => never

/** Fills `target` from `position` in the file, or throws. */
export type ReadAt = (target: Uint8Array, position: number) => void

/** The largest real headers, with 262,144 tokens and their merges, have some 20 MB. */
const mostHeaderBytes = 64 << 20
const windowBytes = 256 << 10

export interface HeaderCursor {
  readonly position: number
  /** Bytes from here to the end of the file. */
  readonly left: number
  uint8(): number
  int8(): number
  uint16(): number
  int16(): number
  uint32(): number
  int32(): number
  float32(): number
  float64(): number
  uint64(): bigint
  int64(): bigint
  /** A text with its length before it. */
  text(what: string, mostBytes?: number): string
}

export function createHeaderCursor(readAt: ReadAt, fileSize: number, fail: Fail): HeaderCursor {
  const window = Buffer.alloc(Math.min(windowBytes, fileSize))
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  // The window holds the file's bytes windowStart … windowEnd − 1.
  let windowStart = 0
  let windowEnd = 0
  let position = 0

  function checkAhead(count: number): void {
    if (position + count > fileSize) {
      fail(`the header ends outside the file, which has ${fileSize} bytes; download it again`)
    }
    if (position + count > mostHeaderBytes) {
      fail(`the header is longer than ${readableBytes(mostHeaderBytes)}, the most accepted`)
    }
  }

  /** Makes the window hold the next bytes, and returns where in it they begin. */
  function advance(count: number): number {
    checkAhead(count)
    if (position + count > windowEnd) {
      windowStart = position
      windowEnd = Math.min(fileSize, position + window.length)
      readAt(window.subarray(0, windowEnd - windowStart), windowStart)
    }
    const at = position - windowStart
    position += count
    return at
  }

  function decode(bytes: Buffer, start: number, end: number, what: string): string {
    const text = bytes.toString('utf8', start, end)
    // The quick decoder puts U+FFFD for what is broken; it may also stand there by right.
    if (text.includes('\ufffd')) {
      try {
        return decoder.decode(bytes.subarray(start, end))
      } catch {
        fail(`${what} is not UTF-8`)
      }
    }
    return text
  }

  return {
    get position() {
      return position
    },
    get left() {
      return fileSize - position
    },
    uint8: () => window.readUInt8(advance(1)),
    int8: () => window.readInt8(advance(1)),
    uint16: () => window.readUInt16LE(advance(2)),
    int16: () => window.readInt16LE(advance(2)),
    uint32: () => window.readUInt32LE(advance(4)),
    int32: () => window.readInt32LE(advance(4)),
    float32: () => window.readFloatLE(advance(4)),
    float64: () => window.readDoubleLE(advance(8)),
    uint64: () => window.readBigUInt64LE(advance(8)),
    int64: () => window.readBigInt64LE(advance(8)),
    text(what, mostBytes = mostHeaderBytes) {
      const at = advance(8)
      // Beyond 2^53 it is rounded, and refused all the same.
      const length = window.readUInt32LE(at + 4) * 2 ** 32 + window.readUInt32LE(at)
      if (length > fileSize - position) {
        const told = window.readBigUInt64LE(at)
        fail(`${what} says it has ${told} bytes; only ${fileSize - position} are left`)
      }
      if (length > mostBytes) {
        fail(`${what} has ${length} bytes; at most ${mostBytes} are accepted`)
      }
      if (length <= window.length) {
        const start = advance(length)
        return decode(window, start, start + length, what)
      }
      checkAhead(length)
      const bytes = Buffer.alloc(length)
      readAt(bytes, position)
      position += length
      return decode(bytes, 0, length, what)
    },
  }
}
