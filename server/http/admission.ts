// Who may run now. A request holds a ticket for its prompts, their sequences and their tokens until its
// terminal event. Beyond the limits the answer is 429; what comes while the server drains gets 503.
//
// One request counts as half of a limit at most: one that fits the limits of its fields is admitted
// when it is alone, and does not shut others out. Where the limits are reached, a client that has
// nothing under way still gets one request in, up to twice the limits: who sends much makes no other
// client wait at the door.

import type { GenerateRequest, Prompt } from '../contracts/generation.ts'
import { ServerError, shuttingDown } from '../errors.ts'

export interface Ticket {
  /** Aborted when the drain time is over: the request must end now. */
  readonly stop: AbortSignal
  /** Idempotent. */
  release(): void
}

/** What a request brings. */
export interface Load {
  readonly prompts: number
  /** Prompts times choices. */
  readonly sequences: number
  /** Those of texts are estimated. */
  readonly promptTokens: number
}

export interface Admission {
  /** Prompts. */
  readonly numInFlight: number
  readonly isDraining: boolean
  /**
   * A request has come; the answer takes it away again, once it is answered or has its ticket. Throws
   * ServerError shutting_down once the drain began: what came before it may still enter.
   */
  arrive(): () => void
  /** Throws rate_limit_exceeded, or shutting_down once all were stopped. */
  enter(request: Load & { readonly client: string }): Ticket
  /**
   * Throws rate_limit_exceeded where not even the smallest request of this client would get in, so
   * that a full server reads no body.
   */
  requireRoom(client: string): void
  /** No request arrives from here on. */
  drain(): void
  /** Ends what still runs. */
  stopAll(): void
  /** Resolves when no request is on its way in and none is in flight. */
  whenIdle(): Promise<void>
}

/** Bytes of text that make about a token. */
const bytesPerToken = 4
/** For each prompt of the limit, on average. */
const sequencesPerPrompt = 8
const tokensPerPrompt = 16_384
const smallest: Load = { prompts: 1, sequences: 1, promptTokens: 0 }
const names = ['prompts', 'sequences', 'promptTokens'] as const
const words = { prompts: 'prompts', sequences: 'sequences', promptTokens: 'prompt tokens' }

export function loadOf(requests: ReadonlyArray<Pick<GenerateRequest, 'prompt' | 'n'>>): Load {
  return {
    prompts: requests.length,
    sequences: requests.reduce((sum, { n }) => sum + n, 0),
    promptTokens: requests.reduce((sum, { prompt }) => sum + tokensOf(prompt), 0),
  }
}

function tokensOf(prompt: Prompt): number {
  switch (prompt.kind) {
    case 'tokens':
      return prompt.tokens.length
    case 'text':
      return Math.ceil(prompt.text.length / bytesPerToken)
    case 'messages': {
      const chars = prompt.messages.reduce((sum, { content }) => sum + content.length, 0)
      return Math.ceil(chars / bytesPerToken) + prompt.messages.length
    }
  }
}

function zero(): Record<(typeof names)[number], number> {
  return { prompts: 0, sequences: 0, promptTokens: 0 }
}

export function createAdmission(options: {
  readonly maxRunning: number
  readonly maxWaiting: number
  readonly monotonicMs: () => number
}): Admission {
  const { maxRunning, maxWaiting, monotonicMs } = options
  const prompts = maxRunning + maxWaiting
  const limits: Load = {
    prompts,
    sequences: sequencesPerPrompt * prompts,
    promptTokens: tokensPerPrompt * prompts,
  }
  const inFlight = new Set<AbortController>()
  /** Requests under way of each client that has any. */
  const clients = new Map<string, number>()
  const idle = new Set<() => void>()
  /** What counts against the limits. */
  const used = zero()
  let isDraining = false
  let isStopped = false
  let numInFlight = 0
  /** Requests that came and have neither a ticket nor an answer. */
  let numArriving = 0
  // Exponential mean of how long a request takes, for Retry-After.
  let meanMs = 1000

  function resolveIdle() {
    if (numInFlight + numArriving > 0) return
    for (const resolve of idle) resolve()
    idle.clear()
  }

  function counted(load: Load): Load {
    const part = zero()
    for (const name of names) part[name] = Math.min(load[name], Math.ceil(limits[name] / 2))
    return part
  }

  /** Throws for the first limit that it would exceed, if any. */
  function requireFit(part: Load, client: string) {
    if (numInFlight === 0) return
    const times = clients.has(client) ? 1 : 2
    const over = names.find((name) => used[name] + part[name] > times * limits[name])
    if (over !== undefined) throw refusal(over)
  }

  function refusal(name: (typeof names)[number]): ServerError {
    const seconds = Math.ceil(((numInFlight / maxRunning) * meanMs) / 1000)
    return new ServerError(
      'rate_limit_exceeded',
      `${used[name]} ${words[name]} are running or waiting and the limit is ${limits[name]} ` +
        '(--max-queue); try again later',
      { headers: { 'retry-after': String(Math.min(60, Math.max(1, seconds))) } },
    )
  }

  return {
    get numInFlight() {
      return numInFlight
    },
    get isDraining() {
      return isDraining
    },
    arrive() {
      if (isDraining) throw shuttingDown()
      let isHere = true
      numArriving++
      return () => {
        if (!isHere) return
        isHere = false
        numArriving--
        resolveIdle()
      }
    },
    requireRoom: (client) => requireFit(smallest, client),
    enter({ client, ...load }) {
      if (isStopped) throw shuttingDown()
      const part = counted(load)
      requireFit(part, client)
      const controller = new AbortController()
      inFlight.add(controller)
      clients.set(client, (clients.get(client) ?? 0) + 1)
      for (const name of names) used[name] += part[name]
      numInFlight += load.prompts
      const startMs = monotonicMs()
      return {
        stop: controller.signal,
        release() {
          if (!inFlight.delete(controller)) return
          const left = clients.get(client)! - 1
          if (left === 0) clients.delete(client)
          else clients.set(client, left)
          for (const name of names) used[name] -= part[name]
          numInFlight -= load.prompts
          meanMs += 0.1 * (monotonicMs() - startMs - meanMs)
          resolveIdle()
        },
      }
    },
    drain() {
      isDraining = true
    },
    stopAll() {
      isStopped = true
      for (const controller of [...inFlight]) controller.abort()
    },
    whenIdle: () =>
      new Promise((resolve) => {
        idle.add(resolve)
        resolveIdle()
      }),
  }
}
