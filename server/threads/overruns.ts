// Clients whose texts took too long: after a few in a row the next ones are refused for a while, and the
// operator is told. So a template that never ends costs a thread now and then, not all the time.

import { ServerError } from '../errors.ts'

export interface OverrunsOptions {
  /** Monotonic milliseconds. */
  readonly now: () => number
  readonly onNotice: (message: string) => void
}

/** In a row, of one client. */
const most = 3
const pauseMs = 30_000
/** Clients that are remembered; the oldest is forgotten first. */
const maxClients = 1000

export function createOverruns({ now, onNotice }: OverrunsOptions) {
  const clients = new Map<string, { inRow: number; pausedUntil: number }>()
  let total = 0

  return {
    /** Throws ServerError while the client's texts are refused. */
    requireNone(client: string): void {
      const left = (clients.get(client)?.pausedUntil ?? 0) - now()
      if (left <= 0) return
      throw new ServerError(
        'rate_limit_exceeded',
        `The last ${most} texts took the chat template and the tokenizer too long; send the next one ` +
          `in ${Math.ceil(left / 1000)} s.`,
      )
    },
    count(client: string): void {
      total++
      const inRow = (clients.get(client)?.inRow ?? 0) + 1
      const isPaused = inRow >= most
      clients.delete(client)
      clients.set(client, { inRow, pausedUntil: isPaused ? now() + pauseMs : 0 })
      for (const oldest of clients.keys()) {
        if (clients.size <= maxClients) break
        clients.delete(oldest)
      }
      if (!isPaused) return
      onNotice(
        `The chat template and the tokenizer took too long for ${inRow} texts in a row of one client, ` +
          `${total} in all: its texts are refused for ${pauseMs / 1000} s. If this happens with ` +
          'ordinary texts, the template does not end.',
      )
    },
    /** A text of the client was done in time. */
    forget(client: string): void {
      clients.delete(client)
    },
  }
}
