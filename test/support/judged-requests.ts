// Requests that are judged, drawn at random, and what is asserted of all of them: what each is told is what
// the plan says of the request alone (judged-reference.ts), token by token and verdict by verdict.

import assert from 'node:assert/strict'
import type { ScaledRankOne } from '../../server/contracts/adapter.ts'
import {
  type GenerateRequest,
  type GenerationEvent,
  isTerminal,
} from '../../server/contracts/generation.ts'
import type { SafetyPlan, Verdict } from '../../server/contracts/safety.ts'
import type { ReplyPhase } from '../../server/contracts/thought.ts'
import type { RequestAdapters } from '../../server/loop/segments.ts'
import { expectedOf, type ReferenceOptions, runUnjudged } from './judged-reference.ts'
import { createRandomNumbers, pick } from './random-numbers.ts'
import {
  adaptersOf,
  bytesOf,
  createRequest,
  eos,
  type Judge,
  type Logits,
  numbered,
  seedOf,
  setOf,
  thoughtEnd,
  thoughtStart,
  vocabSize,
} from './scripted-model.ts'

/** Of a row, in the requests that are drawn here. */
export const capacity = 64
/** Texts of one byte and parts of longer code points, a mark now and then, and an end. */
const words = [...bytesOf('abcé🙂STOP\n'), thoughtEnd, thoughtStart, 258, eos]

/** A few words are likely, others are not; all of it hangs on every position of the row. */
export const wordy: Logits = (_, components, states = []) => {
  const adapters = components.map(({ component, scale }) => component[0]!.a[0]! + scale)
  const random = createRandomNumbers(seedOf([...states, ...adapters]))
  const logits = new Float32Array(vocabSize).fill(-50)
  for (const word of words) logits[word] = 6 * random()
  for (const rare of words.slice(-4)) logits[rare]! -= 3
  return logits
}

export const randomProbe: Judge = (_, states) => (seedOf([...states, 5]) >>> 8) / 2 ** 24
export const randomScore: Judge = (_, states) => (1 + (seedOf(states) >>> 8)) / 2 ** 24 / 1.001

const one: ScaledRankOne = { component: numbered(1), scale: 1 }
export const two: ScaledRankOne = { component: numbered(2), scale: 0.5 }
const base = setOf([])

export const carriers: readonly RequestAdapters[] = [
  adaptersOf([]),
  adaptersOf([one]),
  { applied: setOf([one]).applied, thought: base, answer: setOf([one]), escalated: null },
  { applied: setOf([one]).applied, thought: setOf([one]), answer: base, escalated: null },
]

export function escalatedWith(adapters: RequestAdapters, extra: ScaledRankOne): RequestAdapters {
  const join = ({ components }: RequestAdapters['thought']) => setOf([...components, extra])
  const applied = [...adapters.applied, ...setOf([extra]).applied]
  const [thought, answer] = [join(adapters.thought), join(adapters.answer)]
  return { ...adapters, escalated: { applied, thought, answer } }
}

export interface Asked {
  readonly request: GenerateRequest
  readonly adapters: RequestAdapters
  readonly phase: ReplyPhase
}

export const phases: readonly ReplyPhase[] = ['answering', 'opened', 'beginning', 'closed']
const modes = ['off', 'observe', 'block', 'escalate'] as const

export type Random = ReturnType<typeof createRandomNumbers>

export function choose<Item>(random: Random, items: readonly Item[]): Item {
  return items[pick(random, items.length)]!
}

export function randomPlan(random: Random): SafetyPlan {
  return {
    input: choose(random, modes),
    reply: choose(random, modes),
    every: 1 + pick(random, 9),
    threshold: choose(random, [null, 0.7, 0.9, 1.1]),
    escalation: null,
    failure: choose(random, ['open', 'closed']),
  }
}

export function randomAsked(random: Random, id: string, safety: SafetyPlan | null): Asked {
  const common = 'a prompt that begins as others do'
  const text = common.slice(0, 1 + pick(random, common.length)) + id.repeat(pick(random, 2))
  const left = capacity - bytesOf(text).length
  const maxTokens = choose(random, [0, 1, pick(random, 20), left])
  const request = createRequest({
    id,
    prompt: { kind: 'text', text },
    maxTokens: Math.min(left, maxTokens),
    n: 1 + pick(random, 2),
    safety,
    splitReasoning: random() < 0.7,
    topLogprobs: random() < 0.3 ? 1 : null,
    echo: random() < 0.1,
    promptLogprobs: random() < 0.1 ? 1 : null,
    sampling: {
      temperature: choose(random, [0, 1]),
      stop: choose(random, [[], ['STOP'], ['ab', 'é']]),
      includeStopInOutput: random() < 0.3,
      stopTokenIds: random() < 0.2 ? bytesOf('O') : [],
      minTokens: choose(random, [0, 0, 5]),
      ignoreEos: random() < 0.3,
      seed: BigInt(pick(random, 1000)),
    },
  })
  const carrier = choose(random, carriers)
  const adapters = random() < 0.8 ? escalatedWith(carrier, two) : carrier
  return { request, adapters, phase: choose(random, phases) }
}

const ofIndex = (events: readonly GenerationEvent[], index: number) =>
  events.filter((event) => 'index' in event && event.index === index)

const deltasOf = (events: readonly GenerationEvent[]) =>
  events.filter(({ kind }) => kind === 'delta')

function verdictsOf(events: readonly GenerationEvent[]) {
  return events.flatMap((event) => {
    if (event.kind !== 'verdict') return []
    const { kind, index, ...verdict } = event
    return [rounded(verdict)]
  })
}

function rounded<Score extends Pick<Verdict, 'score'>>(verdict: Score): Score {
  return { ...verdict, score: verdict.score && Math.round(verdict.score * 1e4) }
}

/** What may be told now is covered by verdicts that passed. */
function assertReleased(events: readonly GenerationEvent[], { input, reply }: SafetyPlan): void {
  const holds = (mode: string) => mode === 'block' || mode === 'escalate'
  let isInputJudged = !holds(input)
  let passed = holds(reply) ? 0 : Infinity
  let told = 0
  let isOver = false
  // At a reply's end the last verdict covers the token that says nothing.
  const last = events.findLast((event) => event.kind === 'verdict' && event.part !== 'input')
  for (const event of events) {
    assert.ok(!isOver, `${event.kind} after the end`)
    if (event.kind === 'verdict' && event.part === 'input') isInputJudged = true
    else if (event === last && !(event as { flagged: boolean }).flagged) passed = Infinity
    else if (event.kind === 'verdict' && !event.flagged)
      passed = Math.max(passed, event.scoredTokens)
    if (event.kind === 'choice_finished') isOver = true
    if (event.kind !== 'delta') continue
    told += event.numTokens
    assert.ok(isInputJudged, 'told before the prompt was judged')
    assert.ok(told <= passed || last === undefined, `${told} tokens told, ${passed} passed`)
  }
}

export function assertAsAlone(
  { request, adapters, phase }: Asked,
  events: readonly GenerationEvent[],
  given: Partial<ReferenceOptions> = {},
): void {
  const last = events.at(-1)!
  assert.equal(events.filter(isTerminal).length, 1)
  assert.ok(isTerminal(last))
  for (let index = 0; index < request.n; index++) {
    const options = {
      request,
      index,
      adapters,
      phase,
      logits: wordy,
      score: randomScore,
      probe: null,
      capacity,
      ...given,
    }
    const own = ofIndex(events, index)
    const prompts = own.filter(({ kind }) => kind === 'prompt')
    assert.ok(prompts.length <= 1, 'its prompt is told once')
    if (request.safety === null) {
      const run = runUnjudged(options, 'never')
      const want = [...run.deltas.map(({ event }) => event), run.end]
      const got = own.filter(({ kind }) => kind !== 'prompt')
      assert.deepEqual(got, want.slice(0, last.kind === 'done' ? want.length : got.length))
      continue
    }
    const want = expectedOf(options)
    const verdicts = want.verdicts.map(rounded)
    assertReleased(own, request.safety)
    const told = deltasOf(own)
    const isDone = last.kind === 'done'
    assert.deepEqual(told, want.deltas.slice(0, isDone ? want.deltas.length : told.length))
    const judged = verdictsOf(own)
    assert.deepEqual(judged, verdicts.slice(0, isDone ? verdicts.length : judged.length))
    const ends = own.filter(({ kind }) => kind === 'choice_finished')
    assert.deepEqual(ends, isDone || ends.length > 0 ? [want.end] : [])
    const escalations = own.filter((event) => event.kind === 'escalated')
    assert.ok(escalations.length <= 1)
    if (isDone) assert.equal(escalations[0]?.keptTokens ?? null, want.keptTokens)
    for (const { keptTokens, droppedTokens, adapters: applied } of escalations) {
      assert.equal(keptTokens, want.keptTokens)
      assert.ok(droppedTokens > 0)
      assert.deepEqual(applied, adapters.escalated!.applied)
      const before = own.slice(0, own.indexOf(escalations[0]!))
      assert.equal(deltasOf(before).length, want.numToldBefore)
    }
  }
}
