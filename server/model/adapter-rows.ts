// What each row of a batch is adapted with, as the graph reads it: a row's components side by side,
// strengths folded into b, in native memory. A row is written only when its components change, so a
// step of a batch that stays the same writes nothing, and any adapter in memory is one copy away
// from running. Rows share a width; what a row does not fill is zeros, which add nothing.

import type { Component, ModuleUpdate, ScaledComponent } from '../contracts/adapter.ts'
import {
  type FloatType,
  type LinearModule,
  type ModelConfig,
  moduleShape,
} from '../contracts/checkpoint.ts'
import { adapterA, adapterB } from '../graph/adapter-site.ts'
import { toHalves } from '../graph/float16.ts'
import { createRowMirror } from './device-adapter-rows.ts'
import {
  type Accelerator,
  type AnyTensor,
  allocateTensor,
  type Session,
  type Tensor,
} from './session.ts'

export interface AdapterRowsOptions {
  readonly config: ModelConfig
  /** The modules that the graph was built to adapt. */
  readonly sites: readonly LinearModule[]
  readonly rows: number
  /** Rows are at least so wide. */
  readonly minWidth: number
  /** What the graph computes in. */
  readonly floats: FloatType
  /** Where the graph reads them when that is not the host. */
  readonly device: { readonly session: Session; readonly accelerator: Accelerator } | null
}

interface Place {
  readonly layer: number
  readonly module: LinearModule
  readonly inner: number
  readonly outer: number
}

export type AdapterRows = ReturnType<typeof createAdapterRows>

export function createAdapterRows(options: AdapterRowsOptions) {
  const { config, sites, rows, minWidth, floats, device } = options
  const places: readonly Place[] = Array.from({ length: config.numLayers }, (_, layer) =>
    sites.map((module) => ({ layer, module, ...moduleShape(config, module) })),
  ).flat()
  /** Components per row that the memory is laid out for, and what each row holds. */
  let width = 0
  let memory: ReadonlyArray<{ a: Tensor<FloatType>; b: Tensor<FloatType> }> = []
  let written: (readonly ScaledComponent[] | undefined)[] = []
  const mirror = device && createRowMirror({ ...device, floats, numTensors: 2 * places.length })

  function layOut(newWidth: number): void {
    for (const { a, b } of memory) for (const tensor of [a, b]) tensor.release()
    width = newWidth
    memory = places.map(({ inner, outer }) => ({
      a: allocateTensor(floats, [rows * width * inner]),
      b: allocateTensor(floats, [rows * width * outer]),
    }))
    mirror?.layOut(shapes(rows))
    written = Array.from({ length: rows }, () => undefined)
  }

  /** Of a and b of each place in turn. */
  function shapes(count: number): number[][] {
    return places.flatMap(({ inner, outer }) => [
      [count, inner, width],
      [count, width, outer],
    ])
  }

  function writeRow(row: number, components: readonly ScaledComponent[]): void {
    for (let i = 0; i < width; i++) {
      const scaled = components[i]
      const updates = scaled && updatesByPlace(scaled.component, places)
      for (const [p, { inner, outer }] of places.entries()) {
        const update = updates?.[p]
        const a = memory[p]!.a.data.subarray(row * inner * width, (row + 1) * inner * width)
        const b = memory[p]!.b.data.subarray(
          (row * width + i) * outer,
          (row * width + i + 1) * outer,
        )
        if (scaled === undefined || update === undefined) {
          for (let k = 0; k < inner; k++) a[k * width + i] = 0
          b.fill(0)
        } else if (floats === 'float32') {
          for (let k = 0; k < inner; k++) a[k * width + i] = update.a[k] as number
          for (let k = 0; k < outer; k++) b[k] = scaled.scale * (update.b[k] as number)
        } else {
          const halves = toHalves(update.a)
          for (let k = 0; k < inner; k++) a[k * width + i] = halves[k] as number
          b.set(toHalves(update.b.map((value) => scaled.scale * value)))
        }
      }
    }
    if (mirror !== null) copyToDevice(row)
    written[row] = components
  }

  function copyToDevice(row: number): void {
    const sources = shapes(1).map((dims, i) => {
      const { a, b } = memory[i >> 1]!
      const size = dims.reduce((product, dim) => product * dim, 1)
      return (i % 2 === 0 ? a : b).view(dims, row * size)
    })
    try {
      mirror?.copyRow(row, sources)
    } finally {
      for (const tensor of sources) tensor.release()
    }
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
      const wanted = Math.max(minWidth, ...rowComponents.map((components) => components.length))
      const isNew = wanted !== width
      if (isNew) layOut(wanted)
      for (const [row, components] of rowComponents.entries()) {
        if (!areSame(written[row], components)) writeRow(row, components)
      }
      return isNew
    },

    /** The first `count` rows under the names of the graph. */
    view(count: number): Map<string, AnyTensor> {
      const inputs = new Map<string, AnyTensor>()
      for (const [p, { layer, module, inner, outer }] of places.entries()) {
        const a = mirror?.tensor(2 * p) ?? memory[p]!.a
        const b = mirror?.tensor(2 * p + 1) ?? memory[p]!.b
        inputs.set(adapterA(layer, module), a.view([count, inner, width]))
        inputs.set(adapterB(layer, module), b.view([count, width, outer]))
      }
      return inputs
    },

    release(): void {
      mirror?.release()
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
