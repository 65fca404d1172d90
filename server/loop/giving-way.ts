// Who gives its row up to the first in turn: one whose client is ahead of the other's by `fairLead`
// tokens or, within a client, one of which `muchLarger` times as much is left. What gives way goes on
// later, bit for bit, as after any preemption. It has had a least run before, so all get on.
//
// Within a client a stream gives way only to a short reply, only where no row falls free soon, and goes
// on right after it; each time it gets a longer run before the next. So no stream stands still for long.

import type { Turns } from '../turns/turns.ts'
import type { Sequence } from './sequence.ts'

/** Tokens by which a client may be ahead of one that waits. */
const fairLead = 256
/** Within a client, so many times as large is what gives way. */
const muchLarger = 8
/** Tokens that a sequence gets each time it runs. */
const leastRun = 32
/** A reply of at most so many tokens may hold up a stream of its client. */
const shortReply = 64
/** A prompt with no more tokens left than this is computed to its end. */
const shortRest = 256
/** What may run for very long counts as this long, so that it does not wait for very long. */
const mostCost = 4096

/** Tokens that may yet be computed for it. */
export function costOf({ promptTokens, maxTokens, numTokens }: Sequence): number {
  return Math.min(mostCost, 2 * promptTokens.length + maxTokens - numTokens)
}

export function createGivingWay(turns: Turns<Sequence>) {
  /** Tokens that a sequence had when it got its row, and how often it gave way. */
  const runs = new WeakMap<Sequence, { numTokens: number; numYields: number }>()

  function hasRun(sequence: Sequence, least: number): boolean {
    return sequence.numTokens - runs.get(sequence)!.numTokens >= least
  }

  function isPrompt({ numComputed, promptTokens }: Sequence): boolean {
    return numComputed < promptTokens.length
  }

  /** What a prompt has computed may be lost when it gives way: so each time it gets more. */
  function hasRunPrompt(sequence: Sequence): boolean {
    const { promptTokens, numComputed, numReused, isRecomputing } = sequence
    if (isRecomputing || promptTokens.length - numComputed <= shortRest) return false
    return numComputed - numReused >= leastRun * 2 ** runs.get(sequence)!.numYields
  }

  function isMuchLarger(sequence: Sequence, first: Sequence): boolean {
    return costOf(sequence) >= muchLarger * costOf(first)
  }

  /** How much too long a prompt takes beside what waits; 0 where it may go on. */
  function excessOfPrompt(sequence: Sequence, first: Sequence): number {
    if (!hasRunPrompt(sequence)) return 0
    const lead = turns.lead(sequence, first)
    if (lead === null) return isMuchLarger(sequence, first) ? 1 : 0
    return lead >= fairLead ? lead : 0
  }

  /** The same of a stream. */
  function excessOfStream(sequence: Sequence, first: Sequence, mayInterrupt: boolean): number {
    const lead = turns.lead(sequence, first)
    if (lead !== null) return lead >= fairLead && hasRun(sequence, leastRun) ? lead : 0
    const least = leastRun * 2 ** runs.get(sequence)!.numYields
    return mayInterrupt && hasRun(sequence, least) ? 1 : 0
  }

  return {
    /** It gets a row. */
    begin(sequence: Sequence): void {
      const numYields = runs.get(sequence)?.numYields ?? 0
      runs.set(sequence, { numTokens: sequence.numTokens, numYields })
    },

    /** It gave its row up: to its own client's work for as long as that takes, to another's as if it came now. */
    putLast(sequence: Sequence): void {
      const first = turns.first()
      const isOwn = first !== undefined && turns.lead(sequence, first) === null
      if (isOwn && !isPrompt(sequence)) turns.putBehind(sequence, first)
      else turns.putLast(sequence, costOf(sequence))
      runs.get(sequence)!.numYields++
    },

    /** Who came last: the first to give its row up where memory runs out. */
    youngest(running: readonly Sequence[]): Sequence | undefined {
      return running.reduce<Sequence | undefined>((youngest, sequence) => {
        return youngest && turns.arrivalOf(youngest) > turns.arrivalOf(sequence)
          ? youngest
          : sequence
      }, undefined)
    },

    /** Of the furthest ahead the youngest; undefined where nobody has to give way. */
    choose(decoding: readonly Sequence[], prefilling: Sequence | undefined): Sequence | undefined {
      const first = turns.first()
      if (first === undefined) return undefined
      const { maxTokens, numTokens, promptTokens } = first
      const isShort = maxTokens - (numTokens - promptTokens.length) <= shortReply
      const mayInterrupt = isShort && decoding.every((other) => isMuchLarger(other, first))
      const excesses = decoding.map((sequence) => ({
        sequence,
        over: excessOfStream(sequence, first, mayInterrupt),
      }))
      if (prefilling !== undefined) {
        excesses.push({ sequence: prefilling, over: excessOfPrompt(prefilling, first) })
      }
      let worst: Sequence | undefined
      let most = 0
      for (const { sequence, over } of excesses) {
        if (over === 0 || over < most) continue
        const isOlder = worst !== undefined && turns.arrivalOf(sequence) < turns.arrivalOf(worst)
        if (over === most && isOlder) continue
        worst = sequence
        most = over
      }
      return worst
    },
  }
}
