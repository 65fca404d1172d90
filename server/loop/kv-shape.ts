// How large the KV cache is: rows × positions, one tensor a layer, so every row is as long as the
// longest sequence needs. Both follow use, in powers of two, within a number of positions.

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

export function numPositions({ rows, capacity }: KvShape): number {
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

export function isWithin(need: KvShape, shape: KvShape): boolean {
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
