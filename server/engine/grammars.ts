// Grammars of answers: looked at in the text threads, each in its client's turn and time, then walked in a
// thread of their own, beside the steps of the loop. When that thread ends, each answer goes on from
// what it has said.

import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type {
  AllowedTokens,
  AnswerGrammar,
  GrammarWalk,
  OutputConstraint,
} from '../contracts/constraint.ts'
import type { Turn } from '../contracts/generation.ts'
import { unlessLate } from '../deadline.ts'
import { ServerError } from '../errors.ts'
import { startThread, type Thread, ThreadEnded } from '../threads/thread.ts'
import {
  type GrammarAnswer,
  type GrammarOrder,
  type GrammarVocabulary,
  grammarTask,
} from './grammar-task.ts'
import type { TextThreads } from './text-threads.ts'

export interface GrammarsOptions {
  readonly vocabulary: () => GrammarVocabulary
  readonly texts: Pick<TextThreads, 'run'>
  /** Longest that one answer may wait for its next token's grammar, in ms. */
  readonly budgetMs?: number
  readonly start?: () => Pick<Thread<GrammarOrder, GrammarAnswer>, 'run' | 'terminate'>
}

export interface Grammars {
  /** Rejects with ServerError, or with the signal's reason. */
  open(constraint: OutputConstraint, asked: Asked, signal: AbortSignal): Promise<AnswerGrammar>
  close(): Promise<void>
}

interface Asked {
  readonly turn: Turn
  /** The client's field. */
  readonly field: string | undefined
  /** The reply may have a thought before its answer. */
  readonly mayThink: boolean
}

/** How often an answer is asked for again, where a thread ended meanwhile. */
const mostTries = 3
/** Numbers of states of one thread, at most. */
const statesOfThread = 2 ** 40
/** Grammars that were looked at and found good. */
const mostKnown = 10_000

export function createGrammars(options: GrammarsOptions): Grammars {
  const { texts, budgetMs = 15_000 } = options
  let thread: Pick<Thread<GrammarOrder, GrammarAnswer>, 'run' | 'terminate'> | undefined
  /** The thread knows the vocabulary; null: it has none yet, or it ended. */
  let opened: Promise<unknown> | null = null
  const known = new Set<string>()
  /** Orders without an answer, the oldest first: it is the one that the thread is at work on. */
  const waiting = new Set<object>()
  const knownWalks = createKnownWalks()
  let numOpened = 0
  let isClosed = false

  /** An answer may come back with a state of the thread before: no other may have its number. */
  function openThread(run: Thread<GrammarOrder, GrammarAnswer>['run']): Promise<unknown> {
    const firstState = 1 + statesOfThread * numOpened++
    return run({ kind: 'open', vocabulary: options.vocabulary(), firstState })
  }

  async function ask(order: GrammarOrder): Promise<GrammarAnswer> {
    if (isClosed) throw new ServerError('shutting_down', 'The engine is ending.')
    thread ??= options.start?.() ?? startThread(grammarTask)
    const { run } = thread
    opened ??= openThread(run)
    const own = opened
    const ticket = {}
    waiting.add(ticket)
    try {
      const answer = own.then(() => run(order))
      return await unlessLate(budgetMs, answer, () => {
        // One that waits behind another is not to blame.
        const isFirst = waiting.values().next().value === ticket
        const isAlive = opened === own
        throw isFirst && isAlive ? new Late() : new ThreadEnded('the grammar thread was ended')
      })
    } catch (error) {
      // What it was at work on is not known to be this order: all of its answers begin again.
      if (opened === own && !(error instanceof ServerError)) {
        opened = null
        await thread.terminate()
      }
      throw error
    } finally {
      waiting.delete(ticket)
    }
  }

  /** Where an answer stands after these tokens: on from a state, or from the beginning. */
  async function walk(
    constraint: OutputConstraint,
    digest: string,
    from: Walked | null,
    tokens: readonly number[],
    since: number,
  ): Promise<Walked> {
    let order: GrammarOrder = {
      ...{ kind: 'walk', digest, constraint: null },
      ...(from === null ? { from: 0, tokens } : { from: from.state, tokens: tokens.slice(since) }),
    }
    for (let tries = 1; ; tries++) {
      try {
        const answer = await ask(order)
        if (answer.kind === 'walked') return answer
      } catch (error) {
        if (error instanceof ServerError) throw error
        if (tries === mostTries || error instanceof Late) throw failure(error)
      }
      order = { kind: 'walk', digest, constraint, from: 0, tokens }
    }
  }

  function startWalk(constraint: OutputConstraint, digest: string, start: Walked): GrammarWalk {
    const tokens: number[] = []
    let at = start
    /** How many tokens it has taken. */
    let numTaken = 0
    let failed: unknown = null
    let pending: Promise<void> | null = null

    async function follow(): Promise<void> {
      try {
        // Until all are taken: more may have come meanwhile.
        while (numTaken < tokens.length) {
          const numTokens = tokens.length
          const next = await walk(constraint, digest, at, [...tokens], numTaken)
          const isOne = numTokens === numTaken + 1
          at = isOne ? knownWalks.add(at, tokens[numTaken]!, next) : next
          numTaken = numTokens
        }
      } catch (error) {
        failed = error
      }
      pending = null
    }

    return {
      get allowed(): AllowedTokens | null {
        if (failed !== null) throw failed
        return numTaken === tokens.length ? at : null
      },
      async ready() {
        await pending
      },
      accept(token) {
        const next = numTaken === tokens.length ? knownWalks.after(at, token) : null
        tokens.push(token)
        if (next !== null) {
          at = next
          numTaken++
          return
        }
        // What is said again is said at once: it is followed as one.
        pending ??= Promise.resolve().then(follow)
      },
    }
  }

  async function look(
    constraint: OutputConstraint,
    digest: string,
    { turn, field }: Pick<Asked, 'turn' | 'field'>,
    signal: AbortSignal,
  ): Promise<void> {
    if (known.has(digest)) return
    await texts.run({ kind: 'constraint', constraint, field: field ?? null }, turn, signal)
    known.add(digest)
    if (known.size > mostKnown) known.delete(known.keys().next().value!)
  }

  return {
    async open(constraint, asked, signal) {
      const json = JSON.stringify(constraint)
      const digest = createHash('sha256').update(json).digest('hex')
      await look(constraint, digest, asked, signal)
      const start = await walk(constraint, digest, null, [], 0)
      if (start.numTokens === 0 && !start.mayEnd) throw unwritable(asked.field)
      return { start: () => startWalk(constraint, digest, start) }
    },
    async close() {
      isClosed = true
      await thread?.terminate()
    },
  }
}

/** The thread did not answer in time. */
class Late extends Error {}

function failure(error: unknown): ServerError {
  if (!(error instanceof Late)) console.error(error)
  const why = error instanceof Late ? 'needed too much time or memory' : 'failed'
  return new ServerError(
    'server_error',
    `Generation stopped: the grammar of the answer ${why} between two tokens.`,
  )
}

function unwritable(field: string | undefined): ServerError {
  return new ServerError(
    'invalid_value',
    'No answer can keep to the constraint: this model has no tokens to begin one with.',
    field === undefined ? {} : { param: field },
  )
}

// ---- Where a token leads, as far as the engine has heard of it ----

// What was walked before, for this answer or another, is known at once, without the grammar thread.

/** A state of a grammar and what may come next in it. */
type Walked = Extract<GrammarAnswer, { kind: 'walked' }>

/** Of what may come in states, both of its sets. */
const mostBytes = 64 << 20
const mostSteps = 100_000

interface KnownWalks {
  /** Null: the thread has to be asked. */
  after(from: Walked, token: number): Walked | null
  /** A token has led there. The same state is the same object from then on. */
  add(from: Walked, token: number, to: Walked): Walked
}

function createKnownWalks(): KnownWalks {
  const states = new LRUCache<number, Walked>({
    maxSize: mostBytes,
    sizeCalculation: ({ bits }) => 200 + 2 * bits.byteLength,
  })
  /** By the state that it leads from and the token: the state's number. */
  const steps = new LRUCache<string, number>({ max: mostSteps })

  return {
    after(from, token) {
      if (hasBit(from.loops, token)) return from
      const number = steps.get(`${from.state} ${token}`)
      return number === undefined ? null : (states.get(number) ?? null)
    },
    add(from, token, to) {
      steps.set(`${from.state} ${token}`, to.state)
      const known = states.get(to.state)
      if (known !== undefined) return known
      states.set(to.state, to)
      return to
    },
  }
}

function hasBit(bits: Uint32Array, id: number): boolean {
  return (((bits[id >> 5] ?? 0) >>> (id & 31)) & 1) === 1
}
