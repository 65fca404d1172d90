// A guard behind an address: bounded in how much is asked of it at once, how much waits, how long one
// verdict may take and how long its answer may be. The address is the operator's, never a client's.

import type { Logger } from '../contracts/logger.ts'
import type { GuardOutcome, Observer } from '../contracts/observer.ts'
import {
  type GuardConversation,
  type GuardReading,
  guardRequest,
  readVerdict,
} from './llama-guard.ts'

export interface GuardServerOptions {
  readonly url: string
  readonly model: string
  readonly key: string | null
  /** Of one verdict, waiting included. */
  readonly timeoutMs: number
  readonly observer: Pick<Observer, 'guardAsked'>
  readonly logger: Logger
  readonly now: () => number
  readonly fetch?: typeof fetch
  readonly maxRunning?: number
  readonly maxWaiting?: number
}

export interface GuardServer {
  /** null: it gave no verdict, which was counted and logged, or the signal ended it. */
  judge(conversation: GuardConversation, signal: AbortSignal): Promise<GuardReading | null>
}

const mostAnswerBytes = 256 * 1024

class Failure extends Error {
  readonly outcome: GuardOutcome
  constructor(outcome: GuardOutcome, options: { cause?: unknown } = {}) {
    super(outcome, options)
    this.outcome = outcome
  }
}

/** "…/v1" and a bare address get OpenAI's path. */
export function completionsUrl(address: string): string {
  const url = new URL(address)
  const path = url.pathname.replace(/\/+$/, '')
  if (path.endsWith('/chat/completions')) return url.href
  url.pathname = path.endsWith('/v1') ? `${path}/chat/completions` : `${path}/v1/chat/completions`
  return url.href
}

export function createGuardServer(options: GuardServerOptions): GuardServer {
  const { model, key, timeoutMs, observer, logger, now } = options
  const send = options.fetch ?? fetch
  const places = createPlaces(options.maxRunning ?? 16, options.maxWaiting ?? 256)
  const url = completionsUrl(options.url)
  const headers = {
    'content-type': 'application/json',
    ...(key === null ? {} : { authorization: `Bearer ${key}` }),
  }

  async function ask({ turns }: GuardConversation, signal: AbortSignal): Promise<GuardReading> {
    const leave = await places.enter(signal)
    try {
      const body = JSON.stringify(guardRequest(model, turns))
      // A redirect would send the conversation, and the key, to another address.
      const response = await send(url, { method: 'POST', headers, body, signal, redirect: 'error' })
      const bytes = await readBounded(response)
      if (!response.ok) throw new Failure('refused')
      const reading = readVerdict(parseJson(bytes))
      if (reading === null) throw new Failure('unparsable')
      return reading
    } finally {
      leave()
    }
  }

  return {
    async judge(conversation, ended) {
      const startMs = now()
      const deadline = AbortSignal.timeout(timeoutMs)
      let outcome: GuardOutcome = 'ok'
      try {
        return await ask(conversation, AbortSignal.any([ended, deadline]))
      } catch (error) {
        if (ended.aborted) return null
        if (deadline.aborted) outcome = 'timeout'
        else outcome = error instanceof Failure ? error.outcome : 'unreachable'
        // Neither what was judged nor what came back is for a log.
        logger.warn({ outcome }, 'the guard gave no verdict')
        return null
      } finally {
        if (!ended.aborted) observer.guardAsked({ outcome, seconds: (now() - startMs) / 1000 })
      }
    },
  }
}

async function readBounded(response: Response): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  for await (const part of response.body ?? []) {
    length += part.byteLength
    if (length > mostAnswerBytes) throw new Failure('unparsable')
    parts.push(part)
  }
  return Buffer.concat(parts)
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch (cause) {
    throw new Failure('unparsable', { cause })
  }
}

/** A place is entered in order; who is ended while waiting gives its turn up. */
function createPlaces(maxRunning: number, maxWaiting: number) {
  let numRunning = 0
  const waiting = new Set<() => void>()

  function leave(): void {
    numRunning -= 1
    const [next] = waiting
    if (next === undefined) return
    waiting.delete(next)
    next()
  }

  return {
    async enter(signal: AbortSignal): Promise<() => void> {
      signal.throwIfAborted()
      if (numRunning >= maxRunning) {
        if (waiting.size >= maxWaiting) throw new Failure('overloaded')
        await waitForPlace(waiting, signal)
      }
      numRunning += 1
      return leave
    },
  }
}

function waitForPlace(waiting: Set<() => void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    function onAbort(): void {
      waiting.delete(onPlace)
      reject(signal.reason)
    }
    function onPlace(): void {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }
    waiting.add(onPlace)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
