// What the step loop is to our own engine, over upstreams: takes requests that are ready to run, starts so many
// at a time, in the same turns, and ends each in exactly one terminal event (loop/jobs.ts).

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

/** What an upstream cannot do, by name, before anything is accepted. Throws ServerError. */
export function refuseUnsupported({ adapters, safety, sampling, logprobTokens }: Refusable): void {
  if (logprobTokens.length > 0) {
    throw new ServerError(
      'unsupported_parameter',
      'logprob_token_ids needs an engine of our own (--engine vllm): ask for the most likely tokens ' +
        'by top_logprobs.',
      { param: 'logprob_token_ids' },
    )
  }
  if (adapters.some(({ span }) => span !== undefined)) {
    throw new ServerError(
      'unsupported_parameter',
      'adapter.from and adapter.until need an engine of our own: an upstream applies an adapter to ' +
        'all of a text (--engine vllm; GET /v1/models lists what this server can do).',
      { param: 'adapter' },
    )
  }
  const escalates = safety?.input === 'escalate' || safety?.reply === 'escalate'
  const counts = sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0
  if (escalates && counts) {
    throw new ServerError(
      'unsupported_parameter',
      'presence_penalty and frequency_penalty cannot be kept over an escalation (--engine vllm): ' +
        'leave them out, or ask for block.',
      { param: sampling.presencePenalty !== 0 ? 'presence_penalty' : 'frequency_penalty' },
    )
  }
}

/** A constrained answer needs logits between two tokens. Throws ServerError. */
export async function refuseGrammar(
  _: unknown,
  { field }: { readonly field: string | undefined },
): Promise<never> {
  throw new ServerError(
    'unsupported_parameter',
    `${field ?? 'response_format'} needs an engine of our own: an upstream's tokens are not ` +
      'constrained (--engine vllm).',
    { param: field ?? 'response_format' },
  )
}

type Refusable = Pick<Sequence['request'], 'adapters' | 'safety' | 'sampling' | 'logprobTokens'>
