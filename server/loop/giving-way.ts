// Who gives its row up to the first in turn: one whose client is ahead of the other's by `fairLead`
// tokens or, within a client, one of which `muchLarger` times as much is left. What gives way goes on
// later, bit for bit, as after any preemption. It has had a least run before, so all get on.

import type { Turns } from '../turns/turns.ts'
import type { Sequence } from './sequence.ts'

/** Tokens by which a client may be ahead of one that waits. */
const fairLead = 256
/** Within a client, so many times as large is what gives way. */
const muchLarger = 8
/** Tokens that a sequence gets each time it runs. */
const leastRun = 32
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

  function hasRun(sequence: Sequence): boolean {
    return sequence.numTokens - runs.get(sequence)!.numTokens >= leastRun
  }

  /** What a prompt has computed may be lost when it gives way: so each time it gets more. */
  function hasRunPrompt(sequence: Sequence): boolean {
    const { promptTokens, numComputed, numReused, isRecomputing } = sequence
    if (isRecomputing || promptTokens.length - numComputed <= shortRest) return false
    return numComputed - numReused >= leastRun * 2 ** runs.get(sequence)!.numYields
  }

  /** How much too long it runs beside what waits; 0 where it may go on. */
  function excess(sequence: Sequence, first: Sequence): number {
    const lead = turns.lead(sequence, first)
    if (lead !== null) return lead >= fairLead ? lead : 0
    return costOf(sequence) >= muchLarger * costOf(first) ? 1 : 0
  }

  return {
    /** It gets a row. */
    begin(sequence: Sequence): void {
      const numYields = runs.get(sequence)?.numYields ?? 0
      runs.set(sequence, { numTokens: sequence.numTokens, numYields })
    },

    /** It gave its row up, and waits as if it came now. */
    putLast(sequence: Sequence): void {
      turns.putLast(sequence, costOf(sequence))
      runs.get(sequence)!.numYields++
    },

    /** Of the furthest ahead the youngest; undefined where nobody has to give way. */
    choose(decoding: readonly Sequence[], prefilling: Sequence | undefined): Sequence | undefined {
      const first = turns.first()
      if (first === undefined) return undefined
      const candidates = decoding.filter(hasRun)
      if (prefilling !== undefined && hasRunPrompt(prefilling)) candidates.push(prefilling)
      let worst: Sequence | undefined
      let most = 0
      for (const sequence of candidates) {
        const over = excess(sequence, first)
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
