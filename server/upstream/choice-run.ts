// One choice that an upstream computes, from its prompt to its end: its stream, the verdicts beside it, and
// the stream after an escalation. Greedy choices of one request are alike: the first is computed, the others
// are told the same.

import type { OutputConstraint } from '../contracts/constraint.ts'
import { ServerError } from '../errors.ts'
import type { Jobs } from '../loop/jobs.ts'
import type { Sequence } from '../loop/sequence.ts'
import { streamBody, type UpstreamConstraint } from './completion-request.ts'
import { isOfCall, UpstreamFailure } from './failure.ts'
import { createJudging } from './judging.ts'
import type { Pool } from './pool.ts'
import { readPrompt } from './prompt-logprobs.ts'
import { readStream } from './stream.ts'
import type { Call, Upstream, Used } from './upstream.ts'
import type { Verdicts } from './verdicts.ts'
import type { Chunk } from './wire.ts'

export interface ChoiceRunOptions {
  /** The first is computed. */
  readonly members: readonly [Sequence, ...Sequence[]]
  readonly jobs: Pick<Jobs, 'tell' | 'markFirstStep' | 'markFirstToken'>
  readonly pool: Pool
  /** null: nothing is judged. */
  readonly verdicts: Verdicts | null
  readonly eosTokenIds: readonly number[]
  readonly silenceMs: number
  /** After each piece of news. */
  readonly onTold: (numTokens: number) => void
  readonly signal: AbortSignal
}

/** It has its first token: until then another upstream may take it. */
interface Opened {
  readonly first: Chunk
  readonly rest: AsyncGenerator<Chunk>
}

/** Others were refused before. */
function requireSupported(constraint: OutputConstraint): UpstreamConstraint {
  if (constraint.kind === 'tool_calls') throw new Error('tool calls cannot be asked of an upstream')
  return constraint
}

/** Our own look at it has passed; vLLM's grammars refuse it (400) or fail on it (500), in good health. */
function cannotKeep(field: string | undefined): ServerError {
  const param = field ?? 'response_format'
  return new ServerError(
    'unsupported_parameter',
    `${param}: the upstream refuses what is asked for, or fails on it (--engine vllm): its grammars ` +
      'know less than those of an engine of our own.',
    { param },
  )
}

/** Resolves when all has been told; rejects with what ended it. */
export async function runChoice(options: ChoiceRunOptions): Promise<void> {
  const { members, jobs, pool, verdicts, eosTokenIds, silenceMs, onTold, signal } = options
  const [lead] = members
  const { sampling, topLogprobs, turn, constraint, constraintField } = lead.request
  const namedTokens = topLogprobs === null ? [] : lead.request.logprobTokens
  const endTokens = [...(sampling.ignoreEos ? [] : eosTokenIds), ...sampling.stopTokenIds]
  /** The stream that runs; a verdict may end it. */
  let stream = new AbortController()
  const judging = createJudging({
    members,
    jobs,
    verdicts,
    signal,
    onTurn: () => stream.abort(),
    onTold: () => onTold(0),
  })

  function tellAll(say: (member: Sequence) => Parameters<Jobs['tell']>[1]): void {
    for (const member of members) jobs.tell(member, say(member))
  }

  /** Before its first token, so that the prompt's verdict is computed beside it. */
  function begin(): void {
    tellAll((member) => {
      member.advance(member.promptTokens.length)
      return member.finishPrompt()
    })
    onTold(0)
    judging.begin()
  }

  async function open(): Promise<Used<Opened>> {
    const tokens = lead.tokens(0, lead.numTokens)
    const numSaid = tokens.length - lead.promptTokens.length
    const ask = {
      tokens,
      sampling,
      seed: sampling.seed + BigInt(lead.index),
      endTokens,
      maxTokens: lead.maxTokens - numSaid,
      minTokens: Math.max(0, sampling.minTokens - numSaid),
      topLogprobs,
      namedTokens,
      constraint: constraint === null ? null : requireSupported(constraint),
    }
    const ended = AbortSignal.any([signal, stream.signal])
    const call = ({ transport }: Upstream): Call<Opened> => {
      return async (model, signal) => {
        const body = streamBody(model, ask)
        const answer = await transport.open({
          method: 'POST',
          path: '/v1/completions',
          body,
          signal,
        })
        const rest = readStream(answer, {
          ...{ model, numTop: topLogprobs, namedTokens, silenceMs, signal },
        })
        const { value, done } = await rest.next()
        if (done) throw new UpstreamFailure('outage', 'a stream without tokens')
        return { first: value, rest }
      }
    }
    try {
      return await pool.use(lead.segments.at(-1)!, turn.client, ended, call)
    } catch (error) {
      throw constraint !== null && isOfCall(error) ? cannotKeep(constraintField) : error
    }
  }

  function take({ tokens, finish, cachedTokens }: Chunk): void {
    for (const token of tokens) {
      if (lead.isEnded) break
      tellAll((member) => {
        const events = member.acceptSampled(token)
        member.advance(member.numTokens)
        return events
      })
    }
    if (cachedTokens !== null) {
      lead.reuse(cachedTokens)
      lead.advance(lead.numTokens)
    }
    if (finish !== null && !lead.isEnded) {
      throw new UpstreamFailure('broken', 'it ended what was to go on')
    }
    onTold(tokens.length)
    judging.begin()
  }

  async function follow(): Promise<void> {
    const { signal: mine } = stream
    jobs.markFirstStep(lead)
    const { value, release } = await open()
    jobs.markFirstToken(lead)
    try {
      let isOver = false
      for (let chunk = value.first; ; ) {
        signal.throwIfAborted()
        // A verdict may have taken back what this goes on with.
        if (mine.aborted) return
        take(chunk)
        isOver ||= chunk.finish !== null
        // What it says after an end of its own is how much was cached; an end of ours closes it.
        if (lead.isEnded && !isOver) return
        const next = await value.rest.next()
        if (next.done) return
        chunk = next.value
      }
    } finally {
      await value.rest.return(undefined)
      release()
    }
  }

  if (lead.needsPromptLogits) {
    const places = await readPrompt(pool, lead, signal)
    signal.throwIfAborted()
    lead.acceptPromptPlaces(places)
  }
  while (!lead.isFinished) {
    signal.throwIfAborted()
    stream = new AbortController()
    if (!lead.hasBegun) begin()
    if (lead.isEnded) {
      await judging.settled()
      continue
    }
    try {
      await follow()
    } catch (error) {
      signal.throwIfAborted()
      // A verdict ended it.
      if (!stream.signal.aborted) throw error
      await judging.settled()
    }
  }
  onTold(0)
}
