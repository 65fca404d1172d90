// Bindings of steps with one token a row, over adapter rows of their own. They are kept by the number
// of rows, until the adapters or the cache are laid out anew.

import type { ScaledRankOne } from '../contracts/adapter.ts'
import type { AnyTensor, Binding } from '../runtime/session.ts'
import type { AdapterRows } from './adapter-rows.ts'

/** What one run reads and writes. */
export interface Bound {
  readonly binding: Binding
  readonly release: () => void
}

export interface StepBindingsOptions {
  readonly adapters: AdapterRows
  /** Binds the first `count` rows of the cache, with these adapters. */
  readonly bind: (count: number, adapters: Map<string, AnyTensor>) => Bound
}

export type StepBindings = ReturnType<typeof createStepBindings>

export function createStepBindings({ adapters, bind }: StepBindingsOptions) {
  const byCount = new Map<number, Bound>()

  function release(): void {
    for (const bound of byCount.values()) bound.release()
    byCount.clear()
  }

  return {
    /** For `count` rows; `components` of each adapter row that is used. */
    of(count: number, components: readonly (readonly ScaledRankOne[])[]): Binding {
      if (adapters.write(components)) release()
      const kept = byCount.get(count)
      if (kept !== undefined) return kept.binding
      const bound = bind(count, adapters.view(components.length))
      byCount.set(count, bound)
      return bound.binding
    },

    /** Before the cache moves. */
    release,
  }
}
