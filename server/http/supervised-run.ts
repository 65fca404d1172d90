// One request from submission to its single terminal event, on every path: the engine ends it, the
// client goes, the deadline passes, the server stops, the engine breaks its promise. Ticket, timers,
// metrics and the engine's slot are all given back in one place.

import type { Generation } from '../contracts/engine.ts'
import {
  type FinishReason,
  type GenerationEvent,
  type GenerationTiming,
  isTerminal,
} from '../contracts/generation.ts'
import type { Logger } from '../contracts/logger.ts'
import type { Observer } from '../contracts/observer.ts'
import type { JudgedPart } from '../contracts/safety.ts'
import { type ErrorBody, shuttingDown } from '../errors.ts'
import type { Ticket } from './admission.ts'
import type { Clock } from './context.ts'

export interface RunOptions {
  readonly generation: Generation
  readonly ticket: Ticket
  /** Aborted when the client's connection closes. */
  readonly client: AbortSignal
  readonly deadlineMs: number
  readonly n: number
  readonly maxTokens: number | null
  /** The answer's id, as the client sees it. */
  readonly responseId: string
  readonly observer: Observer
  readonly logger: Logger
  readonly clock: Clock
}

type AcceptedEvent = Extract<GenerationEvent, { kind: 'accepted' }>

/** Ids of the applied adapters as one metric label. */
function adapterLabel(adapters: AcceptedEvent['adapters']): string {
  return adapters.length === 0
    ? 'none'
    : adapters
        .map(({ id }) => id)
        .sort()
        .join('+')
}

type Ending = Extract<GenerationEvent, { kind: 'failed' | 'cancelled' }>

function failed(code: ErrorBody['code'], message: string): Ending {
  return {
    kind: 'failed',
    error: { code, message },
  }
}

export async function* superviseRun(options: RunOptions): AsyncGenerator<GenerationEvent> {
  const { generation, ticket, client, deadlineMs, observer, logger, clock } = options
  const tally = createTally(options)

  // 1. Whatever ends the run from outside sets `ending`, once, and interrupts the wait for an event.
  //    (Promise.race with one promise of the whole run would keep something for every token.)
  let ending: Ending | undefined
  let interrupt: (ending: Ending) => void = () => {}

  function end(from: Ending) {
    ending ??= from
    interrupt(ending)
  }

  const onClientGone = () => end({ kind: 'cancelled' })
  const onStop = () => end({ kind: 'failed', error: shuttingDown().toBody() })
  const deadline = setTimeout(
    () =>
      end(
        failed(
          'timeout',
          `the request took longer than ${deadlineMs / 1000} s (--request-timeout)`,
        ),
      ),
    deadlineMs,
  )
  if (client.aborted) onClientGone()
  if (ticket.stop.aborted) onStop()
  client.addEventListener('abort', onClientGone)
  ticket.stop.addEventListener('abort', onStop)

  // 2. Everything is given back once, before the terminal event is handed out: who got it need not
  //    come back. A reader that stops earlier leaves the last event not terminal.
  let last: GenerationEvent = { kind: 'cancelled' }
  let isOver = false
  const startMs = clock.monotonicMs()
  const events = generation.events[Symbol.asyncIterator]()

  function finish() {
    if (isOver) return
    isOver = true
    clearTimeout(deadline)
    client.removeEventListener('abort', onClientGone)
    ticket.stop.removeEventListener('abort', onStop)
    if (last.kind !== 'done') generation.cancel()
    void events.return?.().catch(() => {})
    ticket.release()
    const terminal: GenerationEvent = isTerminal(last) ? last : { kind: 'cancelled' }
    observer.requestFinished(tally.finish(terminal, clock.monotonicMs() - startMs))
  }

  function nextOrInterrupted() {
    return new Promise<GenerationEvent>((resolve) => {
      interrupt = resolve
      void nextEvent(events, logger).then(resolve)
    })
  }

  // 3. The engine's events pass through until one is terminal; an ending from outside overtakes them.
  try {
    while (!isOver) {
      last = ending ?? (await nextOrInterrupted())
      tally.count(last, clock.monotonicMs() - startMs)
      if (isTerminal(last)) finish()
      yield last
    }
  } finally {
    finish()
  }
}

/** An engine that throws or falls silent is a bug of ours; its request still ends. */
async function nextEvent(
  events: AsyncIterator<GenerationEvent>,
  logger: Logger,
): Promise<GenerationEvent> {
  try {
    const { done, value } = await events.next()
    // Nobody here asked for it: who cancels also ends the run from outside, which comes first.
    if (!done && value.kind === 'cancelled') return failed('server_error', 'the engine stopped')
    if (!done) return value
    logger.error({}, 'a generation ended without a terminal event')
  } catch (error) {
    logger.error({ err: error }, 'a generation threw')
  }
  return failed('server_error', 'the engine failed on this request; it was logged')
}

/** Counts what the metrics want to know about one request. */
function createTally(options: RunOptions) {
  const { observer, n, maxTokens, responseId } = options
  let adapter = 'none'
  let guard: string | null = null
  let promptTokens = 0
  let cachedTokens = 0
  let completionTokens = 0
  let outcome = 'stop'
  let timing: GenerationTiming | undefined
  // Choice → when its last token came.
  const lastTokenMs = new Map<number, number>()
  // Choice → what its last verdict was of.
  const lastPart = new Map<number, JudgedPart>()

  function countTokens(index: number, numTokens: number, nowMs: number) {
    completionTokens += numTokens
    if (numTokens === 0) return
    const previousMs = lastTokenMs.get(index)
    if (lastTokenMs.size === 0) observer.firstToken({ adapter, seconds: nowMs / 1000 })
    if (previousMs !== undefined) {
      observer.interToken({ adapter, seconds: (nowMs - previousMs) / 1000 / numTokens })
    }
    lastTokenMs.set(index, nowMs)
  }

  function countEnd({ index, reason }: { index: number; reason: FinishReason }) {
    if (reason === 'content_filter') {
      observer.blocked({ adapter, part: lastPart.get(index) ?? 'output' })
    }
    if (reason !== 'stop' && outcome !== 'content_filter') outcome = reason
  }

  return {
    count(event: GenerationEvent, nowMs: number) {
      if (event.kind === 'accepted') {
        adapter = adapterLabel(event.adapters)
        promptTokens = event.promptTokens
        guard = event.guard?.id ?? null
      } else if (event.kind === 'delta') countTokens(event.index, event.numTokens, nowMs)
      else if (event.kind === 'verdict') {
        lastPart.set(event.index, event.part)
        const { index } = event
        observer.verdict({ adapter, responseId, index, guard, verdict: event })
      } else if (event.kind === 'escalated') observer.escalated({ adapter })
      else if (event.kind === 'choice_finished') countEnd(event)
      else if (event.kind === 'done') {
        timing = event.timing
        cachedTokens = event.cachedTokens
      }
    },
    finish(ending: GenerationEvent, e2eMs: number) {
      const seconds = (ms: number | undefined) => (ms === undefined ? null : ms / 1000)
      if (ending.kind === 'failed') outcome = ending.error.code
      else if (ending.kind === 'cancelled') outcome = 'abort'
      return {
        adapter,
        responseId,
        outcome,
        promptTokens,
        cachedTokens,
        completionTokens,
        maxTokens,
        n,
        e2eSeconds: e2eMs / 1000,
        queueSeconds: seconds(timing?.queueMs),
        prefillSeconds: seconds(timing?.prefillMs),
        decodeSeconds: seconds(timing?.decodeMs),
      }
    },
  }
}
