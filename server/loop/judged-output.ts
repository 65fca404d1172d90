// What one choice may tell, and when: its reply, judged as its plan asks. Where nothing is judged all of
// it is told at once. A flagged reply goes back to the last text that passed, or ends there.

import type { GenerationEvent } from '../contracts/generation.ts'
import type { Verdict } from '../contracts/safety.ts'
import { createGate } from '../safety/gate.ts'
import type { LabelLogits, LoadedGuard } from '../safety/guard.ts'
import { createJudge } from '../safety/judge.ts'
import { createTold } from '../safety/told.ts'
import { createVerdictRow } from '../safety/verdict-row.ts'
import type { SampledToken } from '../sampling/logprobs.ts'
import { createReply, type ReplyOptions, type Said } from './reply.ts'

export interface JudgedOutputOptions extends ReplyOptions {
  /** Null: there is none, and what is to be judged cannot be. */
  readonly guard: LoadedGuard | null
  /** Most positions of a row; a verdict takes one beside those of its text. */
  readonly maxPositions: number
}

/** What a verdict asks of the row: to go on, to go back by some positions, or to begin anew. */
export type Move = 'on' | 'back' | 'anew'

export function createJudgedOutput(options: JudgedOutputOptions) {
  const { request, index, guard, maxTokens, promptTokens, maxPositions } = options
  const judge = createJudge({ plan: request.safety, guard })
  const { schedule } = judge
  const gate = createGate({ holds: judge.holds })
  const reply = createReply(options)
  const verdictRow = createVerdictRow({ judge, carrierAt: reply.carrierAt })
  const { tell, told } = createTold()
  let hasBegun = false
  /** The reply has ended; told when the last verdict is. */
  let end: GenerationEvent | null = null
  let isFinished = false
  /** Tokens of the reply that a verdict let pass. */
  let passedTokens = 0

  /** What can be told after one more token. */
  function follow(said: Said): GenerationEvent[] {
    const numTokens = reply.tokens.length
    const part = said.endsThought ? 'reasoning' : reply.part
    end = said.end
    if (end !== null) schedule.addEnd(reply.numSaid, part)
    else schedule.addToken(numTokens, part, said.endsThought)
    return [...tell(gate.push(said.deltas, numTokens)), ...settle()]
  }

  /** What needs no step: verdicts that cannot be given, and the end once nothing is due. */
  function settle(): GenerationEvent[] {
    const events: GenerationEvent[] = []
    for (let head = schedule.head; head !== undefined && !isFinished; head = schedule.head) {
      const isTruncated = promptTokens.length + head.numTokens >= maxPositions
      if (guard !== null && !isTruncated) return events
      events.push(...conclude(null, guard === null ? 'failed' : 'truncated'))
    }
    if (end === null || isFinished) return events
    isFinished = true
    return [...events, ...tell(gate.pass(Infinity)), end]
  }

  /** The verdict that is due, and what follows. */
  function conclude(
    logits: LabelLogits | null,
    reason: Exclude<Verdict['skipped'], null>,
  ): GenerationEvent[] {
    const { verdict, follows } = judge.conclude(verdictRow.takeCarrier(), logits, reason)
    const event = { kind: 'verdict', index, ...verdict } as const
    if (follows === 'pass') return [event, ...pass(verdict)]
    gate.drop()
    return [event, ...(follows === 'escalate' && reply.mayEscalate ? escalate(verdict) : block())]
  }

  function pass({ part, scoredTokens }: Verdict): readonly GenerationEvent[] {
    if (part === 'input') return passInput()
    passedTokens = scoredTokens
    return tell(gate.pass(scoredTokens))
  }

  /** A reply that waits for no verdict of its own has waited for the prompt's. */
  function passInput(): readonly GenerationEvent[] {
    return judge.holdsReply ? [] : tell(gate.pass(Infinity))
  }

  function block(): GenerationEvent[] {
    isFinished = true
    const reason = 'content_filter'
    return [{ kind: 'choice_finished', index, reason, stopReason: null, usage: told() }]
  }

  function escalate({ part }: Verdict): GenerationEvent[] {
    const keptTokens = passedTokens
    const droppedTokens = reply.tokens.length - keptTokens
    const { applied } = options.adapters.escalated!
    const kept = { keptTokens, droppedTokens, adapters: applied }
    const event = { kind: 'escalated', index, ...kept } as const
    end = null
    schedule.rewind(keptTokens)
    if (part !== 'input') return [event, ...follow(reply.goBack(keptTokens))]
    hasBegun = false
    reply.beginAnew()
    return [event, ...passInput()]
  }

  return {
    get tokens() {
      return reply.tokens
    },
    segments: reply.segments,
    /** It says no more of itself; a verdict may be due. */
    get isEnded() {
      return end !== null || isFinished
    },
    /** The end was told. */
    get isFinished() {
      return isFinished
    },
    /** The prompt is computed, perhaps once more. */
    get hasBegun() {
      return hasBegun
    },

    /** The prompt is computed; returns what there is to tell. */
    begin(): GenerationEvent[] {
      hasBegun = true
      if (!reply.isEscalated) schedule.addPrompt()
      if (maxTokens === 0) end = reply.finishEmpty()
      return settle()
    },

    /** The grammar that the next token has to keep to; null: none does. */
    get walk() {
      return end === null && !isFinished ? reply.walk : null
    },

    /** Samples the next token from its logits [vocab]; see `createOutput`. */
    accept: (logits: Float32Array, blockMax: Float32Array | null) =>
      follow(reply.accept(logits, blockMax)),
    acceptSampled: (token: SampledToken) => follow(reply.acceptSampled(token)),

    /** w · h of the last of the reply's first `numTokens` tokens; 0: of the prompt's last. */
    acceptProbe(numTokens: number, product: number): void {
      judge.acceptProbe(numTokens, product, reply.part)
    },

    /** Place of the verdict that can be given once `numComputed` tokens of the reply are computed. */
    dueAt: verdictRow.dueAt,

    /** It can wait for no more company. */
    isPressing: (numComputed: number) => verdictRow.isPressing(numComputed, end !== null),

    /** Tokens of the reply that another row shall read now, for the next verdict; null: none. */
    takeReading: () => (hasBegun ? verdictRow.takeReading() : null),
    /** It has said all, and waits for what another row reads. */
    get awaitsReading() {
      return verdictRow.isReading && end !== null && !isFinished
    },

    /** The verdict that was due, from its labels' logits; null: the guard gave none. */
    judge(logits: LabelLogits | null): { events: GenerationEvent[]; move: Move } {
      const { isEscalated } = reply
      const events = [...conclude(logits, 'failed'), ...settle()]
      if (reply.isEscalated === isEscalated) return { events, move: 'on' }
      return { events, move: hasBegun ? 'back' : 'anew' }
    },
    /** Tokens of the reply whose keys and values are good after it went back. */
    get numKept() {
      return passedTokens
    },
  }
}
