// A rank-1 update: what one slot of the bank holds. An adapter of rank r is r of them.

import type { LinearModule } from '../contracts/checkpoint.ts'

/** y += scale · b · (a · x) on one module of one layer. */
export interface ModuleUpdate {
  readonly layer: number
  readonly module: LinearModule
  /** [inner] */
  readonly a: Float32Array
  /** [outer], with alpha/r folded in. */
  readonly b: Float32Array
}

/** At most one update a module; modules that are not adapted are absent. */
export type Component = readonly ModuleUpdate[]
