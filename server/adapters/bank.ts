// The adapter bank: slots of rank-1 updates in memory that the graph gathers from, row by row.
// Slot 0 is the base: zeros, never handed out. Bookkeeping and copies; who may be evicted is the
// store's business.

import type { Component } from './component.ts'

export interface BankOptions {
  readonly numSlots: number
  readonly numLayers: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  /** Per layer, [numSlots, hidden] and [numSlots, intermediate]; views, written in place. */
  readonly a: readonly Float32Array[]
  readonly b: readonly Float32Array[]
}

export interface Bank {
  readonly numSlots: number
  readonly numFree: number
  /** Writes each component into a free slot; null, and nothing written, when there are too few. */
  allocate(components: readonly Component[]): readonly number[] | null
  /** The slots may be written again: no row may use them any more. */
  free(slots: readonly number[]): void
}

export function createBank(options: BankOptions): Bank {
  const { numSlots, numLayers, hiddenSize, intermediateSize, a, b } = options
  checkViews(options)
  for (let layer = 0; layer < numLayers; layer++) {
    a[layer]!.fill(0, 0, hiddenSize)
    b[layer]!.fill(0, 0, intermediateSize)
  }
  // Taken from the end, so that low slots go first.
  const unused = Array.from({ length: numSlots - 1 }, (_, i) => numSlots - 1 - i)
  const used = new Set<number>()

  const write = (slot: number, component: Component): void => {
    for (let layer = 0; layer < numLayers; layer++) {
      const update = component.get(layer)
      writeRow(a[layer]!, slot, hiddenSize, update?.a)
      writeRow(b[layer]!, slot, intermediateSize, update?.b)
    }
  }

  return {
    numSlots,
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

function writeRow(
  rows: Float32Array,
  slot: number,
  size: number,
  values: Float32Array | undefined,
): void {
  if (values === undefined) rows.fill(0, slot * size, (slot + 1) * size)
  else if (values.length === size) rows.set(values, slot * size)
  else throw new Error(`an update has ${values.length} values, the bank's rows ${size}`)
}

function checkViews({ numSlots, numLayers, hiddenSize, intermediateSize, a, b }: BankOptions) {
  const isRight =
    numSlots >= 1 &&
    a.length === numLayers &&
    b.length === numLayers &&
    a.every((rows) => rows.length === numSlots * hiddenSize) &&
    b.every((rows) => rows.length === numSlots * intermediateSize)
  if (!isRight) throw new Error('the bank needs numLayers views of numSlots rows each')
}
