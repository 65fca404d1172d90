// What each row of a batch is adapted with, as the graph reads it: a row's components side by side,
// strengths folded into b, in native memory. A row is written only when its components change, so a
// step of a batch that stays the same writes nothing, and any adapter in memory is one copy away
// from running. Rows share a width; what a row does not fill is zeros, which add nothing.

import type { Component, ModuleUpdate, ScaledComponent } from '../contracts/adapter.ts'
import { type LinearModule, type ModelConfig, moduleShape } from '../contracts/checkpoint.ts'
import { adapterA, adapterB } from '../graph/adapter-site.ts'
import { allocateTensor, type Tensor } from './session.ts'

export interface AdapterRowsOptions {
  readonly config: ModelConfig
  /** The modules that the graph was built to adapt. */
  readonly sites: readonly LinearModule[]
  readonly rows: number
}

interface Place {
  readonly layer: number
  readonly module: LinearModule
  readonly inner: number
  readonly outer: number
}

export type AdapterRows = ReturnType<typeof createAdapterRows>

export function createAdapterRows({ config, sites, rows }: AdapterRowsOptions) {
  const places: readonly Place[] = Array.from({ length: config.numLayers }, (_, layer) =>
    sites.map((module) => ({ layer, module, ...moduleShape(config, module) })),
  ).flat()
  /** Components per row that the memory is laid out for, and what each row holds. */
  let width = 0
  let memory: ReadonlyArray<{ a: Tensor<'float32'>; b: Tensor<'float32'> }> = []
  let written: (readonly ScaledComponent[] | undefined)[] = []

  function layOut(newWidth: number): void {
    for (const { a, b } of memory) for (const tensor of [a, b]) tensor.release()
    width = newWidth
    memory = places.map(({ inner, outer }) => ({
      a: allocateTensor('float32', [rows * width * inner]),
      b: allocateTensor('float32', [rows * width * outer]),
    }))
    written = Array.from({ length: rows }, () => undefined)
  }

  function writeRow(row: number, components: readonly ScaledComponent[]): void {
    for (let i = 0; i < width; i++) {
      const scaled = components[i]
      const updates = scaled && updatesByPlace(scaled.component, places)
      for (const [p, { inner, outer }] of places.entries()) {
        const update = updates?.[p]
        const at = row * width + i
        const a = memory[p]!.a.data.subarray(at * inner, (at + 1) * inner)
        const b = memory[p]!.b.data.subarray(at * outer, (at + 1) * outer)
        if (scaled === undefined || update === undefined) {
          a.fill(0)
          b.fill(0)
        } else {
          a.set(update.a)
          for (let k = 0; k < outer; k++) b[k] = scaled.scale * (update.b[k] as number)
        }
      }
    }
    written[row] = components
  }

  return {
    get width() {
      return width
    },

    /**
     * Makes rows 0 … n − 1 hold these components. True when the memory was laid out anew, so that
     * earlier views must not be used any more.
     */
    write(rowComponents: readonly (readonly ScaledComponent[])[]): boolean {
      const wanted = Math.max(1, ...rowComponents.map((components) => components.length))
      const isNew = wanted !== width
      if (isNew) layOut(wanted)
      for (const [row, components] of rowComponents.entries()) {
        if (!areSame(written[row], components)) writeRow(row, components)
      }
      return isNew
    },

    /** The first `count` rows under the names of the graph. */
    view(count: number): Map<string, Tensor> {
      const inputs = new Map<string, Tensor>()
      for (const [p, { layer, module, inner, outer }] of places.entries()) {
        const { a, b } = memory[p]!
        inputs.set(adapterA(layer, module), a.view([count, width, 1, inner]))
        inputs.set(adapterB(layer, module), b.view([count, 1, width, outer]))
      }
      return inputs
    },

    release(): void {
      for (const { a, b } of memory) for (const tensor of [a, b]) tensor.release()
    },
  }
}

function areSame(
  x: readonly ScaledComponent[] | undefined,
  y: readonly ScaledComponent[],
): boolean {
  if (x === y) return true
  if (x?.length !== y.length) return false
  return x.every(({ component, scale }, i) => {
    return component === y[i]?.component && scale === y[i]?.scale
  })
}

/** A component's updates in the order of the places; a module without a site is a bug. */
function updatesByPlace(component: Component, places: readonly Place[]) {
  const updates = new Map<string, ModuleUpdate>(
    component.map((update) => [`${update.layer}.${update.module}`, update]),
  )
  const ordered = places.map(({ layer, module }) => {
    const key = `${layer}.${module}`
    const update = updates.get(key)
    updates.delete(key)
    return update
  })
  const [lost] = updates.keys()
  if (lost !== undefined) throw new Error(`the graph has no adapter site for ${lost}`)
  return ordered
}
