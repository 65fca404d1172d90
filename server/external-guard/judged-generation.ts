// A generation whose prompt and reply a guard outside the engine judges. It keeps the order of events
// that an engine with a guard keeps, so that nobody who reads them need know who judges.
//
//   engine's events ─┐
//                    ├─► judged choices ─► what may be told
//   verdicts ────────┘

import type { Generation } from '../contracts/engine.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import type { AppliedGuard, SafetyPlan } from '../contracts/safety.ts'
import { ServerError } from '../errors.ts'
import { createJudgedChoice, type DueVerdict, type JudgedChoice } from './judged-choice.ts'
import type { GuardReading } from './llama-guard.ts'

export interface JudgedGenerationOptions {
  readonly generation: Generation
  readonly plan: SafetyPlan
  readonly n: number
  readonly guard: AppliedGuard
  readonly threshold: number
  /** Of the prompt alone, or of the reply so far. Never rejects. */
  readonly judge: (
    reply: string | null,
  ) => Promise<{ readonly reading: GuardReading | null; readonly isCut: boolean }>
  readonly now: () => number
}

type Answer = Awaited<ReturnType<JudgedGenerationOptions['judge']>>

type Arrival =
  | { readonly kind: 'event'; readonly result: IteratorResult<GenerationEvent> }
  | {
      readonly kind: 'verdict'
      readonly choice: JudgedChoice
      readonly due: DueVerdict
      readonly answer: Answer
    }
  | { readonly kind: 'input'; readonly answer: Answer }
  | { readonly kind: 'error'; readonly error: unknown }

const inputDue: DueVerdict = { part: 'input', numTokens: 0, numDeltas: 0, text: null }

export async function* judgedEvents(
  options: JudgedGenerationOptions,
): AsyncGenerator<GenerationEvent> {
  const { generation, plan, n, guard, threshold, judge, now } = options
  const choices = Array.from({ length: n }, (_, index) =>
    createJudgedChoice({ index, plan, threshold }),
  )
  const iterator = generation.events[Symbol.asyncIterator]()
  const arrivals = createArrivals()
  const startMs = now()
  let done: GenerationEvent | null = null

  const pull = () => arrivals.take(iterator.next().then((result) => ({ kind: 'event', result })))
  const input = plan.input === 'off' ? null : judge(null)

  function askForDue(): void {
    for (const choice of choices) {
      const due = choice.takeDue()
      if (due === undefined) continue
      arrivals.take(judge(due.text).then((answer) => ({ kind: 'verdict', choice, due, answer })))
    }
  }

  function onInput({ reading, isCut }: Answer): GenerationEvent[] {
    return choices.flatMap((choice) =>
      choice.onVerdict(inputDue, choice.toVerdict(inputDue, reading, isCut)),
    )
  }

  /** A choice that was stopped is not waited for. */
  function isEverythingTold(): boolean {
    if (choices.some(({ isOver }) => !isOver)) return false
    return done !== null || choices.some(({ isAbandoned }) => isAbandoned)
  }

  try {
    // 1. The engine takes the request, or not.
    const first = await iterator.next()
    if (first.done) return
    if (first.value.kind !== 'accepted') return yield first.value
    const accepted = { ...first.value, guard }

    // 2. A prompt that may be blocked is judged before anything is told; else it is judged meanwhile.
    const holdsInput = plan.input === 'block' || plan.input === 'escalate'
    if (input !== null && holdsInput) {
      const answer = await input
      if (answer.reading === null && plan.failure === 'closed') return yield unavailable()
      yield accepted
      yield* onInput(answer)
    } else {
      if (input !== null) arrivals.take(input.then((answer) => ({ kind: 'input', answer })))
      yield accepted
    }

    // 3. Events and verdicts as they come, until every choice has ended and the engine is done.
    pull()
    while (!isEverythingTold()) {
      const arrival = await arrivals.next()
      if (arrival.kind === 'error') throw arrival.error
      if (arrival.kind === 'input') yield* onInput(arrival.answer)
      else if (arrival.kind === 'verdict') {
        const { choice, due, answer } = arrival
        yield* choice.onVerdict(due, choice.toVerdict(due, answer.reading, answer.isCut))
      } else {
        const { done: isOver, value: event } = arrival.result
        // The supervisor tells of an engine that breaks its promise.
        if (isOver) return
        if (event.kind === 'failed' || event.kind === 'cancelled') return yield event
        if (event.kind === 'done') done = event
        else {
          yield* told(event, choices)
          pull()
        }
      }
      askForDue()
    }
    yield done ?? endedEarly(now() - startMs)
  } finally {
    generation.cancel()
    void iterator.return?.().catch(() => {})
  }
}

function told(
  event: GenerationEvent,
  choices: readonly JudgedChoice[],
): readonly GenerationEvent[] {
  if (event.kind === 'delta') return choices[event.index]!.onDelta(event)
  if (event.kind === 'choice_finished') return choices[event.index]!.onFinish(event)
  return [event]
}

function unavailable(): GenerationEvent {
  const error = new ServerError(
    'guard_unavailable',
    'the guard did not judge the prompt in time (--guard-timeout), and nothing goes unjudged here; try again',
  )
  return { kind: 'failed', error: error.toBody() }
}

/** Nothing more is to be told: what the engine still computes is given up. */
function endedEarly(ms: number): GenerationEvent {
  return {
    kind: 'done',
    timing: { queueMs: 0, prefillMs: 0, decodeMs: ms },
    cachedTokens: 0,
  }
}

/** What comes from several promises, one after another in the order in which it came. */
function createArrivals() {
  const arrived: Arrival[] = []
  let wake: () => void = () => {}

  function push(arrival: Arrival): void {
    arrived.push(arrival)
    wake()
  }

  return {
    take(promise: Promise<Arrival>): void {
      promise.then(push, (error: unknown) => push({ kind: 'error', error }))
    },
    async next(): Promise<Arrival> {
      if (arrived.length === 0) await new Promise<void>((resolve) => (wake = resolve))
      return arrived.shift()!
    },
  }
}
