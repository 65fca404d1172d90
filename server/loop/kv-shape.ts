// How large the KV cache is: rows × positions, one tensor a layer, so every row is as long as the
// longest sequence needs. Both follow use, in powers of two, within a number of positions.
// It grows in parts between steps where the model can, so that no stream waits for all of it.

import type { Sequence } from './sequence.ts'
import type { StepRunner } from './step-runner.ts'

export interface KvShape {
  readonly rows: number
  /** Positions per row. */
  readonly capacity: number
}

export interface KvLimits {
  readonly maxRows: number
  /** The longest context that is served. */
  readonly maxCapacity: number
  /** Positions of all rows together. */
  readonly maxPositions: number
}

const smallestCapacity = 512
const mostRowsAtFirst = 4

function numPositions({ rows, capacity }: KvShape): number {
  return rows * capacity
}

/** Where an idle cache begins, and what it shrinks to. */
export function firstShape({ maxRows, maxCapacity, maxPositions }: KvLimits): KvShape {
  const capacity = Math.min(smallestCapacity, maxCapacity)
  const affordable = Math.max(1, Math.floor(maxPositions / capacity))
  return { rows: Math.min(mostRowsAtFirst, maxRows, affordable), capacity }
}

export function fits({ rows, capacity }: KvShape, limits: KvLimits): boolean {
  return (
    rows <= limits.maxRows &&
    capacity <= limits.maxCapacity &&
    rows * capacity <= limits.maxPositions
  )
}

function isWithin(need: KvShape, shape: KvShape): boolean {
  return need.rows <= shape.rows && need.capacity <= shape.capacity
}

/** The shape that holds what is needed: the present one where it does. The need must fit. */
export function shapeFor(need: KvShape, present: KvShape, limits: KvLimits): KvShape {
  if (isWithin(need, present)) return present
  const rows = Math.min(limits.maxRows, grown(present.rows, need.rows))
  const capacity = Math.min(limits.maxCapacity, grown(present.capacity, need.capacity))
  if (rows * capacity <= limits.maxPositions) return { rows, capacity }
  // No room to spare: only the rows that are needed, as long as they can be.
  const affordable = Math.floor(limits.maxPositions / need.rows)
  return { rows: need.rows, capacity: Math.min(capacity, affordable) }
}

function grown(present: number, need: number): number {
  return need <= present ? present : Math.max(present, 2 ** Math.ceil(Math.log2(need)))
}

export interface KvRoomOptions {
  readonly runner: Pick<StepRunner, 'positionBytes' | 'reshape' | 'reshapePart'>
  readonly limits: KvLimits
  /** Is told how many bytes are left beside the rows. */
  readonly limitPrefixes: (bytes: number) => void
}

/** Positions that a sequence finds free when it is admitted; it may get more later. */
const reserve = 256
/** So many positions before its end the cache begins to grow; more than the steps that takes. */
const ahead = 128
/** Bytes that growing copies between two steps. */
const maxMoveBytes = 16 << 20

export function createKvRoom({ runner, limits, limitPrefixes }: KvRoomOptions) {
  const { positionBytes } = runner
  let shape = firstShape(limits)
  /** What it grows to while steps run, part by part; null: it does not. */
  let target: KvShape | null = null

  function bytesLeft({ rows, capacity }: KvShape): number {
    return (limits.maxPositions - rows * capacity) * positionBytes
  }

  function reshape(next: KvShape, running: readonly Sequence[]): void {
    if (next === shape) return
    limitPrefixes(bytesLeft(next))
    runner.reshape(next, lengthsOf(running))
    shape = next
    target = null
  }

  /** Moves a part of it to the target; whether it is all there. */
  function growOn(running: readonly Sequence[]): boolean {
    if (target === null) return true
    if (!runner.reshapePart!(target, lengthsOf(running), maxMoveBytes)) return false
    shape = target
    target = null
    return true
  }

  /** Begins to grow to what is needed, where the model can while steps run. */
  function growTo(need: KvShape, running: readonly Sequence[]): boolean {
    if (runner.reshapePart === undefined || !fits(need, limits)) return false
    const next = shapeFor(need, shape, limits)
    if (next === shape || next.rows < shape.rows || next.capacity < shape.capacity) return false
    limitPrefixes(bytesLeft(next))
    target = next
    growOn(running)
    return true
  }

  /** Positions that a sequence must have to be admitted. */
  function neededFirst({ mostPositions, numTokens }: Sequence): number {
    return Math.min(mostPositions, limits.maxCapacity, numTokens + reserve)
  }

  /** Positions that its next step needs; a prompt is given its whole length at once. */
  function neededNow({ promptTokens, numComputed }: Sequence): number {
    return Math.min(limits.maxCapacity, Math.max(promptTokens.length, numComputed + 1))
  }

  /** Positions that the steps after it need. */
  function neededSoon(sequence: Sequence): number {
    const most = Math.min(limits.maxCapacity, sequence.mostPositions)
    return Math.max(neededNow(sequence), Math.min(most, sequence.numComputed + ahead))
  }

  /** Grows for the next step of these rows; false when they do not all fit. */
  function hold(running: readonly Sequence[]): boolean {
    if (running.length === 0) return true
    const need = { rows: running.length, capacity: Math.max(...running.map(neededNow)) }
    if (running.length > 1 && !fits(need, limits)) return false
    if (isWithin(need, shape)) return true
    reshape(shapeFor(need, target ?? shape, limits), running)
    return true
  }

  /** The same, and goes on growing for the steps after it. */
  function tryHold(running: readonly Sequence[]): boolean {
    if (!hold(running)) return false
    if (target !== null) growOn(running)
    else if (running.length > 0) {
      growTo({ rows: running.length, capacity: Math.max(...running.map(neededSoon)) }, running)
    }
    return true
  }

  limitPrefixes(bytesLeft(shape))
  return {
    get shape() {
      return shape
    },

    tryHold,

    /**
     * Grows for one more sequence; false when there is no memory for its prompt and a reserve, "soon" where
     * the cache is growing while the others run.
     */
    tryAdmit(sequence: Sequence, running: readonly Sequence[]): boolean | 'soon' {
      const capacity = Math.max(neededFirst(sequence), ...running.map(neededNow))
      const need = { rows: running.length + 1, capacity }
      if (running.length > 0 && !fits(need, limits)) return false
      const wanted = {
        rows: need.rows,
        capacity: Math.max(...[...running, sequence].map(neededNow)),
      }
      if (running.length === 0 || isWithin(wanted, shape)) return hold([...running, sequence])
      if (target !== null) return 'soon'
      if (!growTo(wanted, running)) return hold([...running, sequence])
      return target === null ? true : 'soon'
    },

    /** Nothing runs: gives memory back. */
    shrink(): void {
      const first = firstShape(limits)
      if (target !== null || numPositions(shape) > numPositions(first)) reshape(first, [])
      limitPrefixes(bytesLeft(shape))
    },
  }
}

function lengthsOf(running: readonly Sequence[]): number[] {
  return running.map(({ numComputed }) => numComputed)
}
