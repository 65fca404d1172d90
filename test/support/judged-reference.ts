// What a judged request must be told, worked out without the loop: its tokens are computed one after the
// other, with the adapters of each position, and the plan is read word by word.

import type { GenerateRequest, GenerationEvent } from '../../server/contracts/generation.ts'
import type { SafetyMode, SafetyPlan, Verdict } from '../../server/contracts/safety.ts'
import type { ReplyPhase } from '../../server/contracts/thought.ts'
import { createOutput } from '../../server/loop/output.ts'
import type { AdapterSet, RequestAdapters } from '../../server/loop/segments.ts'
import {
  byteTokenizer,
  eos,
  type Judge,
  type Logits,
  promptTokensOf,
  stateOf,
  tokensOf,
} from './scripted-model.ts'

export interface ReferenceOptions {
  readonly request: GenerateRequest
  readonly index: number
  readonly adapters: RequestAdapters
  readonly phase: ReplyPhase
  readonly logits: Logits
  readonly score: Judge
  /** P(unsafe) by the probe, from `probeThreshold` on; null: there is none. */
  readonly probe: Judge | null
  readonly capacity: number
}

/** From where the scripted probe asks for a verdict. */
export const probeThreshold = 0.7

/** From so many tokens of the reply on the escalation's adapters act; all: on the prompt, too. */
type Escalated = number | 'all' | 'never'

interface Place {
  readonly numTokens: number
  readonly part: Verdict['part']
  readonly probe: number | null
}

interface Delta {
  readonly event: GenerationEvent
  /** Tokens of the reply when it came. */
  readonly numTokens: number
}

/** A reply that nobody judges. */
interface Run {
  readonly deltas: readonly Delta[]
  readonly end: GenerationEvent
  /** What positions hold, the prompt's first. */
  readonly states: readonly number[]
  readonly sets: readonly AdapterSet[]
  /** Part of each token of the reply. */
  readonly parts: ReadonlyArray<Verdict['part']>
  /** Where the reply is to be judged, a probe apart. */
  readonly places: readonly Place[]
}

export interface Expected {
  readonly deltas: readonly GenerationEvent[]
  readonly verdicts: readonly Verdict[]
  readonly end: GenerationEvent
  /** Tokens that an escalation kept; null: there was none. */
  readonly keptTokens: number | null
  /** Deltas up to here came before it. */
  readonly numToldBefore: number
}

export function runUnjudged(options: ReferenceOptions, escalated: Escalated): Run {
  const { request, index, adapters, phase, logits } = options
  const prompt = promptTokensOf(request)
  const maxTokens = request.maxTokens!
  const every = request.safety?.every ?? 1
  const output = createOutput({
    request: { ...request, safety: null },
    index,
    promptTokens: prompt,
    tokenizer: byteTokenizer,
    eosTokenIds: [eos],
    phase,
    maxTokens,
  })
  const first = escalated === 'all' ? adapters.escalated!.thought : adapters.thought
  const sets = prompt.map(() => first)
  const states = prompt.map((token) => stateOf(token, first.components))
  const deltas: Delta[] = []
  const parts: Array<Verdict['part']> = []
  const places: Place[] = []
  const probe = null
  let end = maxTokens === 0 ? output.finishEmpty() : undefined
  while (end === undefined) {
    const { section } = output
    const numBefore = output.tokens.length
    const isEscalated = escalated === 'all' || (escalated !== 'never' && numBefore >= escalated)
    const sides = isEscalated ? adapters.escalated! : adapters
    const set = section === 'content' ? sides.answer : sides.thought
    const events = output.accept(logits(tokensOf(states), sets.at(-1)!.components, states))
    const numTokens = numBefore + 1
    sets.push(set)
    states.push(stateOf(output.tokens.at(-1)!, set.components))
    const endsThought = section !== 'content' && output.section === 'content' && output.hasThought
    const part = endsThought || output.section === 'reasoning' ? 'reasoning' : 'output'
    if (output.isFinished) end = events.at(-1)!
    parts.push(output.section === 'reasoning' ? 'reasoning' : 'output')
    const told = output.isFinished ? events.slice(0, -1) : events
    deltas.push(...told.map((event) => ({ event, numTokens })))
    if (!output.isFinished && (endsThought || numTokens % every === 0)) {
      places.push({ numTokens, part, probe })
    }
    const { numSaid } = output
    if (output.isFinished && numSaid > (places.at(-1)?.numTokens ?? 0)) {
      places.push({ numTokens: numSaid, part, probe })
    }
  }
  return { deltas, end, states, sets, parts, places }
}

/**
 * The places after the reply's first `from` tokens, and those where the probe rises over its threshold;
 * each with the largest that the probe said since the one before. null: from the prompt on.
 */
function probedPlaces(options: ReferenceOptions, run: Run, from: number | null): Place[] {
  const { probe, request } = options
  const fixed = run.places.filter(({ numTokens }) => numTokens > (from ?? -1))
  if (from === null && request.safety!.input !== 'off') {
    fixed.unshift({ numTokens: 0, part: 'input', probe: null })
  }
  const isJudged = request.safety!.reply !== 'off'
  const wanted = isJudged ? fixed : fixed.filter(({ part }) => part === 'input')
  if (probe === null) return wanted
  const prompt = promptTokensOf(request).length
  const rest = Math.max(1, Math.floor(request.safety!.every / 4))
  const found: Place[] = []
  let scores: number[] = []
  let wasAbove = false
  for (let k = from === null ? 0 : from + 1; k <= run.parts.length; k++) {
    const place = wanted.find(({ numTokens }) => numTokens === k)
    // What is sampled last is computed only where it is judged.
    const isComputed = k === 0 || k < run.parts.length || (place && prompt + k < options.capacity)
    if (isComputed) {
      const states = run.states.slice(0, prompt + k)
      scores.push(Math.fround(probe(tokensOf(states), states)))
    }
    const isAbove = isComputed && scores.at(-1)! >= probeThreshold
    const isRisen = isAbove && !wasAbove && k - (found.at(-1)?.numTokens ?? from ?? 0) >= rest
    if (place || (isJudged && isRisen)) {
      const largest = scores.length > 0 ? Math.max(...scores) : null
      found.push({ numTokens: k, part: place?.part ?? run.parts[k - 1]!, probe: largest })
      scores = []
    }
    wasAbove = isAbove ?? false
  }
  return found
}

/** The guard is the scripted model's. */
function judgeAt(
  options: ReferenceOptions,
  { states, sets }: Run,
  { numTokens, part, probe }: Place,
) {
  const position = promptTokensOf(options.request).length + numTokens
  const before = states.slice(0, position)
  const plan = options.request.safety!
  const isTruncated = position >= options.capacity
  const score = isTruncated ? null : Math.fround(options.score(tokensOf(before), before))
  const applied = sets[position - 1]!.applied
  const isWhole = new Set(sets.slice(0, position).map(({ key }) => key)).size === 1
  const verdict: Verdict = {
    part,
    scoredTokens: numTokens,
    score,
    flagged: score !== null && score >= (plan.threshold ?? 0.5),
    threshold: plan.threshold ?? 0.5,
    certified: isWhole && applied.length === 0,
    probe,
    skipped: score === null ? 'truncated' : null,
  }
  const isRefused = verdict.flagged || (score === null && plan.failure === 'closed')
  return { verdict, isRefused }
}

const holds = (mode: SafetyMode) => mode === 'block' || mode === 'escalate'

/** Everything but the order in which deltas and verdicts alternate. */
export function expectedOf(options: ReferenceOptions): Expected {
  const { request, adapters } = options
  const plan: SafetyPlan = request.safety!
  const verdicts: Verdict[] = []
  let run = runUnjudged(options, 'never')
  let kept: number | null = null
  let passed = 0
  let numToldBefore = 0
  const mayEscalate = () => kept === null && adapters.escalated !== null && request.maxTokens! > 0

  function blocked(): Expected {
    const deltas = toldUpTo(run, passed)
    const usage = { completionTokens: 0, reasoningTokens: 0 }
    for (const delta of deltas) {
      if (delta.kind !== 'delta') continue
      usage.completionTokens += delta.numTokens
      if (delta.section === 'reasoning') usage.reasoningTokens += delta.numTokens
    }
    const { index } = options
    const reason = 'content_filter'
    const end = { kind: 'choice_finished', index, reason, stopReason: null, usage } as const
    return { deltas, verdicts, end, keptTokens: kept, numToldBefore }
  }

  const places = probedPlaces(options, run, null)
  for (let place = places.shift(); place !== undefined; place = places.shift()) {
    const isInput = place.part === 'input'
    const mode = isInput ? plan.input : plan.reply
    const { verdict, isRefused } = judgeAt(options, run, place)
    verdicts.push(verdict)
    if (!isRefused || !holds(mode)) {
      passed = place.numTokens
      continue
    }
    if (!verdict.flagged || mode !== 'escalate' || !mayEscalate()) return blocked()
    kept = passed
    numToldBefore = toldUpTo(run, passed).length
    run = runUnjudged(options, isInput ? 'all' : passed)
    places.splice(0, places.length, ...probedPlaces(options, run, passed))
  }
  const deltas = run.deltas.map(({ event }) => event)
  return { deltas, verdicts, end: run.end, keptTokens: kept, numToldBefore }
}

function toldUpTo({ deltas }: Run, passed: number): GenerationEvent[] {
  return deltas.filter(({ numTokens }) => numTokens <= passed).map(({ event }) => event)
}
