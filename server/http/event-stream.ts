// Server-sent events with a bounded buffer. A reader that does not read holds its writer up (and so
// the generation); when it still has not read after `slowReaderMs`, the write fails. Silence is filled
// with comments, so that proxies keep the connection.
//
// Not hono's streamSSE: it swallows the errors of writes, and waits for a slow reader without end.

import type { StreamLimits } from './context.ts'
import { LongJson } from './reply/long-json.ts'
import { jsonPieces } from './wire/json-pieces.ts'
import { createPace } from './wire/pace.ts'

/** Characters of a long event that are written at once. */
const blockLength = 1 << 16

export interface EventWriter {
  /** Resolves when there is room for more; rejects with SlowReaderError or when the client is gone. */
  send(data: object | '[DONE]', name?: string): Promise<void>
}

class SlowReaderError extends Error {
  override readonly name = 'SlowReaderError'
}

/**
 * Runs `produce` with a writer and closes the stream when it ends, however it ends: it is the
 * producer's task to have sent its last event. `onGone` is called when the reader left or was too slow;
 * `disconnect` closes the connection of one that is too slow; false when there is none.
 */
export function streamEvents(options: {
  readonly limits: StreamLimits
  readonly produce: (writer: EventWriter) => Promise<void>
  readonly onGone: () => void
  readonly disconnect: () => boolean
}): ReadableStream<Uint8Array> {
  const { limits, produce, onGone, disconnect } = options
  const encoder = new TextEncoder()
  let wake: (() => void) | undefined
  let isGone = false

  const hasRoom = (controller: ReadableStreamDefaultController) => (controller.desiredSize ?? 0) > 0

  async function waitForRoom(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const isSlow = await new Promise<boolean>((resolve) => {
      wake = () => resolve(false)
      timer = setTimeout(() => resolve(true), limits.slowReaderMs)
    })
    clearTimeout(timer)
    wake = undefined
    if (isSlow) throw new SlowReaderError('the client does not read')
  }

  function start(controller: ReadableStreamDefaultController<Uint8Array>) {
    const write = (text: string) => controller.enqueue(encoder.encode(text))
    const pace = createPace()
    let isMidEvent = false
    const keepAlive = setInterval(() => {
      // A comment inside an event would become a part of it.
      if (!isMidEvent && hasRoom(controller)) write(': keep-alive\n\n')
    }, limits.keepAliveMs)
    const writer: EventWriter = {
      async send(data, name) {
        requireReader()
        const begin = name === undefined ? '' : `event: ${name}\n`
        if (data instanceof LongJson) await sendPieces(data)
        else write(`${begin}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`)
        keepAlive.refresh()
        await makeRoom()
      },
    }

    function requireReader() {
      if (isGone) throw new SlowReaderError('the client is gone')
    }

    async function makeRoom() {
      if (!hasRoom(controller)) await waitForRoom()
      requireReader()
    }

    /** An event that is written while it is made: neither its making nor its size holds others up. */
    async function sendPieces({ value }: LongJson) {
      isMidEvent = true
      let block = 'data: '
      for (const piece of jsonPieces(value)) {
        block += piece
        const rest = pace.step()
        if (rest !== undefined) await rest
        // The reader may have left meanwhile.
        requireReader()
        if (block.length < blockLength) continue
        write(block)
        block = ''
        await makeRoom()
      }
      write(`${block}\n\n`)
      isMidEvent = false
    }

    async function run() {
      try {
        await produce(writer)
        if (!isGone) controller.close()
      } catch (error) {
        // Only writes fail here: the client does not read. Closing the connection cancels
        // this stream quietly; an error would end up on the console.
        onGone()
        if (!isGone && !disconnect()) controller.error(error)
        isGone = true
      } finally {
        clearInterval(keepAlive)
      }
    }

    // Not awaited: `start` would hold the stream's first read back.
    void run()
  }

  return new ReadableStream<Uint8Array>(
    {
      start,
      pull: () => wake?.(),
      cancel() {
        isGone = true
        onGone()
        wake?.()
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: limits.maxBufferedBytes }),
  )
}
