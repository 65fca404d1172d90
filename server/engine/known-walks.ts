// Where a token leads in a grammar, as far as the engine has heard of it: what was walked before, for
// this answer or another, is known at once, without the grammar thread.

import { LRUCache } from 'lru-cache'
import type { GrammarAnswer } from './grammar-task.ts'

/** A state of a grammar and what may come next in it. */
export type Walked = Extract<GrammarAnswer, { kind: 'walked' }>

/** Of what may come in states, both of its sets. */
const mostBytes = 64 << 20
const mostSteps = 100_000

export interface KnownWalks {
  /** Null: the thread has to be asked. */
  after(from: Walked, token: number): Walked | null
  /** A token has led there. The same state is the same object from then on. */
  add(from: Walked, token: number, to: Walked): Walked
}

export function createKnownWalks(): KnownWalks {
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
