// A rank-1 update: what one slot of the bank holds. An adapter of rank r is r of them.

/** y += scale · b · (a · x) on the up projection of one layer. */
export interface LayerUpdate {
  /** [hidden] */
  readonly a: Float32Array
  /** [intermediate], with alpha/r folded in. */
  readonly b: Float32Array
}

/** Layer index → its update; layers that are not adapted are absent. */
export type Component = ReadonlyMap<number, LayerUpdate>
