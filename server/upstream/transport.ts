// HTTP to one upstream. Connections are kept; a request that is aborted closes its own, which frees the
// upstream's slot. No time limit but the caller's: a stream may wait long in the upstream's queue.

import { Agent, type IncomingMessage, request as requestHttp } from 'node:http'
import { request as requestHttps, Agent as SecureAgent } from 'node:https'
import { failureOf, UpstreamFailure } from './failure.ts'
import { errorAnswer } from './wire.ts'

export interface TransportOptions {
  readonly url: string
  /** Bearer key; null: none. */
  readonly key: string | null
}

export interface Transport {
  /** The body of a 200, unread. Rejects with UpstreamFailure, or the signal's reason. */
  open(call: Call): Promise<IncomingMessage>
  /** The same, read whole. */
  text(call: Call): Promise<string>
  /** What a call failed with: where its health is bad, an outage. Rejects with the signal's reason. */
  judge(error: unknown, signal: AbortSignal): Promise<unknown>
  close(): void
}

interface Call {
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** JSON. */
  readonly body?: string
  readonly signal: AbortSignal
}

/** Answers that are read whole are no longer: log-probabilities of a long prompt. */
const mostBytes = 256 * 2 ** 20
const mostErrorBytes = 64 * 1024
const healthTimeoutMs = 5000

export function createTransport({ url, key }: TransportOptions): Transport {
  const isSecure = new URL(url).protocol === 'https:'
  const agent = new (isSecure ? SecureAgent : Agent)({ keepAlive: true })
  const send = isSecure ? requestHttps : requestHttp

  function start({ method, path, body, signal }: Call): Promise<IncomingMessage> {
    const headers = {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
    }
    return new Promise((resolve, reject) => {
      signal.throwIfAborted()
      const outgoing = send(new URL(path, url), { method, headers, agent, signal }, resolve)
      outgoing.on('error', (error) => {
        // It closed a connection that was idle while this came: nothing was asked yet.
        const isStale = outgoing.reusedSocket && !signal.aborted && isClosed(error)
        if (isStale)
          start({ method, path, signal, ...(body !== undefined && { body }) }).then(resolve, reject)
        else reject(explain(error, signal))
      })
      outgoing.end(body)
    })
  }

  async function open(call: Call): Promise<IncomingMessage> {
    const answer = await start(call)
    if (answer.statusCode === 200) return answer
    const text = await readBounded(answer, mostErrorBytes, call.signal).catch(() => '')
    throw failureOf(answer.statusCode ?? 0, errorAnswer(text))
  }

  async function text(call: Call): Promise<string> {
    return readBounded(await open(call), mostBytes, call.signal)
  }

  return {
    open,
    text,
    async judge(error, signal) {
      if (!(error instanceof UpstreamFailure) || error.kind !== 'failed') return error
      const limited = AbortSignal.any([signal, AbortSignal.timeout(healthTimeoutMs)])
      try {
        await text({ method: 'GET', path: '/health', signal: limited })
        return error
      } catch {
        signal.throwIfAborted()
        return new UpstreamFailure('outage', `${error.message}, and its health is bad`, {
          cause: error,
        })
      }
    },
    close: () => agent.destroy(),
  }
}

const isClosed = ({ code }: NodeJS.ErrnoException) => code === 'ECONNRESET' || code === 'EPIPE'

async function readBounded(
  answer: IncomingMessage,
  most: number,
  signal: AbortSignal,
): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  try {
    for await (const part of answer) {
      length += part.length
      if (length > most) throw new UpstreamFailure('broken', 'its answer is too long')
      parts.push(part)
    }
  } catch (error) {
    throw explain(error, signal)
  }
  return Buffer.concat(parts).toString()
}

/** The caller's own abort stays what it is. */
export function explain(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason
  if (error instanceof UpstreamFailure) return error
  return new UpstreamFailure('outage', (error as NodeJS.ErrnoException).code ?? 'unreachable', {
    cause: error,
  })
}
