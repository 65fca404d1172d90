// Server-sent events with a bounded buffer. A reader that does not read holds its writer up (and so
// the generation); when it still has not read after `slowReaderMs`, the write fails. Silence is filled
// with comments, so that proxies keep the connection.
//
// Not hono's streamSSE: it swallows the errors of writes, and waits for a slow reader without end.

import type { StreamLimits } from './context.ts'

export interface EventWriter {
  /** Resolves when there is room for more; rejects with SlowReaderError or when the client is gone. */
  send(data: object | '[DONE]'): Promise<void>
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
    const keepAlive = setInterval(() => {
      if (hasRoom(controller)) write(': keep-alive\n\n')
    }, limits.keepAliveMs)
    const writer: EventWriter = {
      async send(data) {
        if (isGone) throw new SlowReaderError('the client is gone')
        write(`data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`)
        keepAlive.refresh()
        if (!hasRoom(controller)) await waitForRoom()
        if (isGone) throw new SlowReaderError('the client is gone')
      },
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
