// The adapter bank: slots of rank-1 updates in memory that the graph gathers from, row by row.
// Slot 0 is the base: zeros, never handed out. Bookkeeping and copies; who may be evicted is the
// store's business.

import type { LinearModule } from '../contracts/checkpoint.ts'
import type { Component } from './component.ts'

/** The memory of one adapted module: [numSlots, inner] and [numSlots, outer], written in place. */
export interface BankPlace {
  readonly layer: number
  readonly module: LinearModule
  readonly a: Float32Array
  readonly b: Float32Array
}

export interface BankOptions {
  readonly numSlots: number
  readonly places: readonly BankPlace[]
}

export interface Bank {
  readonly numSlots: number
  readonly numFree: number
  /** The modules that have a place on some layer. */
  readonly modules: ReadonlySet<LinearModule>
  /**
   * Writes each component into a free slot; null, and nothing written, when there are too few. Free
   * slots are read by no run, so this is safe while one is under way.
   */
  allocate(components: readonly Component[]): readonly number[] | null
  /** The slots may be written again: no row may use them any more. */
  free(slots: readonly number[]): void
}

export function createBank({ numSlots, places }: BankOptions): Bank {
  const rows = places.map(({ a, b, ...place }) => {
    if (a.length % numSlots !== 0 || b.length % numSlots !== 0) {
      throw new Error(`bank memory of ${place.module} is no multiple of ${numSlots} slots`)
    }
    return { ...place, a: rowsOf(a, a.length / numSlots), b: rowsOf(b, b.length / numSlots) }
  })
  for (const { a, b } of rows) {
    a.write(0, undefined)
    b.write(0, undefined)
  }
  // Taken from the end, so that low slots go first.
  const unused = Array.from({ length: numSlots - 1 }, (_, i) => numSlots - 1 - i)
  const used = new Set<number>()

  const write = (slot: number, component: Component): void => {
    const updates = new Map(component.map((update) => [`${update.layer}.${update.module}`, update]))
    for (const { layer, module, a, b } of rows) {
      const key = `${layer}.${module}`
      const update = updates.get(key)
      updates.delete(key)
      a.write(slot, update?.a)
      b.write(slot, update?.b)
    }
    const [lost] = updates.keys()
    if (lost !== undefined) throw new Error(`the bank has no place for ${lost}`)
  }

  return {
    numSlots,
    modules: new Set(places.map(({ module }) => module)),
    get numFree() {
      return unused.length
    },
    allocate(components) {
      if (components.length > unused.length) return null
      return components.map((component) => {
        const slot = unused.pop()!
        used.add(slot)
        write(slot, component)
        return slot
      })
    },
    free(slots) {
      for (const slot of slots) {
        if (!used.delete(slot)) throw new Error(`slot ${slot} is not in use`)
        unused.push(slot)
      }
    },
  }
}

function rowsOf(memory: Float32Array, size: number) {
  return {
    write(slot: number, values: Float32Array | undefined): void {
      if (values === undefined) memory.fill(0, slot * size, (slot + 1) * size)
      else if (values.length === size) memory.set(values, slot * size)
      else throw new Error(`an update has ${values.length} values, the bank's rows ${size}`)
    },
  }
}
