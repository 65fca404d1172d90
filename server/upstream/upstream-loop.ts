// What the step loop is to our own engine, over upstreams: takes requests that are ready to run, starts so many
// at a time, in the same turns, and ends each in exactly one terminal event (loop/jobs.ts).

import type { AnswerGrammar } from '../contracts/constraint.ts'
import type { LoopStats } from '../contracts/engine.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import { ServerError } from '../errors.ts'
import { costOf } from '../loop/giving-way.ts'
import { createJobs, type Job } from '../loop/jobs.ts'
import type { Sequence } from '../loop/sequence.ts'
import { createTurns } from '../turns/turns.ts'
import { runChoice } from './choice-run.ts'
import { tellFailure } from './failure.ts'
import type { Pool } from './pool.ts'
import type { Verdicts } from './verdicts.ts'

export interface UpstreamLoopOptions {
  readonly pool: Pool
  readonly verdicts: Verdicts | null
  readonly eosTokenIds: readonly number[]
  /** Streams at once, over all upstreams. */
  readonly maxStreams: number
  readonly silenceMs: number
  readonly publish: (events: ReadonlyArray<readonly [string, GenerationEvent]>) => void
  /** Monotonic milliseconds. */
  readonly now: () => number
}

/** Choices that are computed as one: the first is. */
type Group = readonly [Sequence, ...Sequence[]]

/** As in our own loop, for as many rows. */
const stretch = 8

export function createUpstreamLoop(options: UpstreamLoopOptions) {
  const { pool, verdicts, eosTokenIds, maxStreams, silenceMs, publish, now } = options
  const turns = createTurns<Sequence>({ stretch: stretch * maxStreams })
  const groups = new Map<Sequence, Group>()
  const running = new Map<Sequence, AbortController>()
  let outbox: Array<readonly [string, GenerationEvent]> = []
  const jobs = createJobs({
    emit: (id, event) => outbox.push([id, event]),
    remove(sequence) {
      running.get(sequence)?.abort()
      running.delete(sequence)
      turns.remove(sequence)
      groups.delete(sequence)
    },
    now,
  })

  function flush(): void {
    if (outbox.length === 0) return
    const events = outbox
    outbox = []
    publish(events)
  }

  function startNext(): void {
    while (running.size < maxStreams) {
      const lead = turns.first()
      if (lead === undefined) return
      turns.take(lead)
      turns.charge(lead, lead.promptTokens.length)
      void run(groups.get(lead)!)
    }
  }

  async function run(members: Group): Promise<void> {
    const [lead] = members
    const controller = new AbortController()
    running.set(lead, controller)
    const { signal } = controller
    try {
      await runChoice({
        members,
        jobs,
        pool,
        verdicts,
        eosTokenIds,
        silenceMs,
        signal,
        onTold(numTokens) {
          if (groups.has(lead)) turns.charge(lead, numTokens)
          flush()
        },
      })
      running.delete(lead)
      for (const member of members) jobs.finishChoice(member)
    } catch (error) {
      running.delete(lead)
      if (!signal.aborted) jobs.failStep([lead], tellFailure(error))
    }
    flush()
    startNext()
  }

  return {
    submit(job: Job): void {
      jobs.add(job)
      for (const group of groupsOf(job)) {
        const [lead] = group
        groups.set(lead, group)
        turns.add(lead, lead.request.turn, costOf(lead))
      }
      startNext()
    },
    /** Unknown ids are ignored. */
    cancel(id: string): void {
      if (!jobs.cancel(id)) return
      jobs.endCancelled()
      flush()
      startNext()
    },
    stats(): Omit<LoopStats, 'kvUsage'> {
      return {
        running: running.size,
        waiting: turns.numWaiting,
        runningAdapters: jobs.adaptersOf([...running.keys()]),
        waitingAdapters: jobs.adaptersOf(turns.waiting()),
      }
    },
  }
}

/** Greedy choices of one prompt say the same. */
function groupsOf({ sequences }: Job): Group[] {
  const [first, ...others] = sequences
  if (first === undefined) return []
  if (first.request.sampling.temperature === 0) return [[first, ...others]]
  return sequences.map((sequence) => [sequence])
}

const mostNamedTokens = 128

/** What an upstream cannot do, by name, before anything is accepted. Throws ServerError. */
export function refuseUnsupported(request: Refusable): void {
  const { adapters, safety, sampling } = request
  refuseNamedTokens(request)
  if (adapters.some(({ span }) => span !== undefined)) {
    refuse(
      'adapter',
      'adapter.from and adapter.until need an engine of our own: an upstream applies an adapter to ' +
        'all of a text (--engine vllm; GET /v1/models lists what this server can do).',
    )
  }
  const escalates = safety?.input === 'escalate' || safety?.reply === 'escalate'
  const counts = sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0
  if (escalates && counts) {
    refuse(
      sampling.presencePenalty !== 0 ? 'presence_penalty' : 'frequency_penalty',
      'presence_penalty and frequency_penalty cannot be kept over an escalation (--engine vllm): ' +
        'leave them out, or ask for block.',
    )
  }
  refuseConstraint(request, escalates)
}

/** vLLM tells the named tokens in place of the likeliest. */
function refuseNamedTokens({ logprobTokens, topLogprobs }: Refusable): void {
  if (logprobTokens.length === 0 || topLogprobs === null) return
  if (topLogprobs === 0 && logprobTokens.length <= mostNamedTokens) return
  refuse(
    'logprob_token_ids',
    topLogprobs > 0
      ? 'logprob_token_ids beside top_logprobs need an engine of our own (--engine vllm): ask for ' +
          'one of them, with top_logprobs 0.'
      : `logprob_token_ids may name ${mostNamedTokens} tokens over an upstream (--engine vllm), not ` +
          `${logprobTokens.length}: name fewer.`,
  )
}

/** An upstream's grammar begins with its first token, ends with an end token, and is never joined midway. */
function refuseConstraint(
  { constraint, constraintField, sampling }: Refusable,
  escalates: boolean,
): void {
  if (constraint === null) return
  const field = constraintField ?? 'response_format'
  if (constraint.kind === 'tool_calls') {
    refuse(
      field,
      `${field} needs an engine of our own: an upstream's calls of tools are not constrained ` +
        '(--engine vllm).',
    )
  }
  const other = [
    [sampling.ignoreEos, 'ignore_eos'],
    [sampling.minTokens > 0, 'min_tokens'],
    [escalates, 'safety "escalate"'],
  ] as const
  const found = other.find(([isAsked]) => isAsked)
  if (found === undefined) return
  refuse(
    field,
    `${field} cannot be kept with ${found[1]} over an upstream (--engine vllm): leave one out.`,
  )
}

function refuse(param: string, message: string): never {
  throw new ServerError('unsupported_parameter', message, { param })
}

export interface UpstreamGrammars {
  /** The upstreams know the field. */
  readonly constrains: () => boolean
  /** Looks at it as our own engine does. Rejects with ServerError. */
  readonly look: () => Promise<unknown>
}

/** The upstream keeps to it: what comes is not walked here. Rejects with ServerError. */
export async function openGrammar(
  {
    field = 'response_format',
    mayThink,
  }: { readonly field: string | undefined; readonly mayThink: boolean },
  { constrains, look }: UpstreamGrammars,
): Promise<AnswerGrammar> {
  if (!constrains()) {
    refuse(
      field,
      `${field}: an upstream does not know structured_outputs (--engine vllm): use a vLLM that does.`,
    )
  }
  if (mayThink) {
    refuse(
      field,
      `${field} acts from the first token on over an upstream (--engine vllm), and this prompt leaves ` +
        'room for a thought: ask without one (chat_template_kwargs.enable_thinking: false).',
    )
  }
  await look()
  return { start: () => ({ allowed: null, ready: async () => {}, accept() {} }) }
}

type Refusable = Pick<
  Sequence['request'],
  | 'adapters'
  | 'safety'
  | 'sampling'
  | 'logprobTokens'
  | 'topLogprobs'
  | 'constraint'
  | 'constraintField'
>
