// The bank of rank-1 components: which slots are taken, and the copying of vectors into them. Slot 0
// is the base model: zeros, never given out. The memory belongs to whoever runs the graph.

/** One rank-1 component over all layers; the scaling alpha/r is folded into b. */
export interface Rank1Component {
  /** Per layer a vector [hidden], or null where the layer is not adapted. */
  readonly a: ReadonlyArray<Float32Array | null>
  /** Per layer a vector [intermediate], or null. */
  readonly b: ReadonlyArray<Float32Array | null>
}

export interface BankOptions {
  readonly numSlots: number
  readonly numLayers: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  /** Per layer [numSlots × hidden]. */
  readonly a: readonly Float32Array[]
  /** Per layer [numSlots × intermediate]. */
  readonly b: readonly Float32Array[]
}

export type Bank = ReturnType<typeof createBank>

export function createBank(options: BankOptions) {
  const { numSlots, numLayers, hiddenSize, intermediateSize } = options
  const free = Array.from({ length: numSlots - 1 }, (_, i) => numSlots - 1 - i)
  const taken = new Set<number>()
  for (let layer = 0; layer < numLayers; layer++) {
    write(options.a[layer], 0, hiddenSize, null)
    write(options.b[layer], 0, intermediateSize, null)
  }

  return {
    get numFree() {
      return free.length
    },
    /** Slots that any adapter can take, in all. */
    numSlots: numSlots - 1,
    /**
     * Copies components into free slots; null, and nothing written, when there are too few. Free
     * slots are read by no run, so this is safe while one is under way.
     */
    allocate(components: readonly Rank1Component[]): number[] | null {
      if (components.length > free.length) return null
      return components.map((component) => {
        const slot = free.pop() as number
        taken.add(slot)
        for (let layer = 0; layer < numLayers; layer++) {
          write(options.a[layer], slot, hiddenSize, component.a[layer] ?? null)
          write(options.b[layer], slot, intermediateSize, component.b[layer] ?? null)
        }
        return slot
      })
    },
    /** Their vectors stay until the slots are given out again: no row refers to them any more. */
    free(slots: readonly number[]): void {
      for (const slot of slots) {
        if (!taken.delete(slot)) throw new Error(`bank slot ${slot} is not taken`)
        free.push(slot)
      }
    },
  }
}

function write(
  target: Float32Array | undefined,
  slot: number,
  size: number,
  vector: Float32Array | null,
): void {
  if (target === undefined) return
  if (vector === null) target.fill(0, slot * size, (slot + 1) * size)
  else target.set(vector, slot * size)
}
