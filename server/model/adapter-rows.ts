// The adapters of each row of a batch, in native memory as the graph reads them: at each site (a module
// of a layer) the row's components side by side, with the strength folded into b. A row is written only
// when its components change. A batch that stays the same therefore writes nothing in a step, and any
// resident adapter is one copy away from running. All rows share a site's width. A row with fewer
// components is padded with zeros, which add nothing. A site that no row uses has width 0 and costs
// nothing; on an accelerator it has width 1 and holds zeros.

import { rowWidth, type ScaledRankOne } from '../contracts/adapter.ts'
import {
  cpuTarget,
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
  moduleShape,
} from '../contracts/checkpoint.ts'
import type { FloatType } from '../contracts/float-type.ts'
import { toHalves } from '../contracts/float16.ts'
import { adapterA, adapterB } from '../graph/adapter-site.ts'
import {
  type Accelerator,
  type AnyTensor,
  allocateTensor,
  type Session,
  type Tensor,
} from '../runtime/session.ts'
import { createRowMirror } from './device-adapter-rows.ts'

export interface AdapterRowsOptions {
  readonly config: ModelConfig
  /** The modules that the graph was built to adapt. */
  readonly sites: readonly LinearModule[]
  readonly rows: number
  /** Smallest width of a site that some row uses. */
  readonly minWidth: number
  /** A site shrinks after so many writes in a row for which less would have done. */
  readonly patience?: number
  /** What the graph was built for; the CPU unless said. */
  readonly target?: GraphTarget
  /** Where the graph reads them when that is not the host. */
  readonly device?: { readonly session: Session; readonly accelerator: Accelerator } | null
}

/** y += b · (a · x) */
interface Update {
  readonly a: Float32Array
  readonly b: Float32Array
  readonly scale: number
}

interface Site {
  readonly key: string
  readonly nameA: string
  readonly nameB: string
  readonly inner: number
  readonly outer: number
  /** Components per row that the memory is laid out for. */
  width: number
  /** Writes in a row for which less would have done. */
  numTooWide: number
  a: Tensor<FloatType>
  b: Tensor<FloatType>
}

/** What a row holds; `updates` by site, in the order of the components. */
interface Row {
  readonly components: readonly ScaledRankOne[]
  readonly updates: readonly (readonly Update[])[]
}

export type AdapterRows = ReturnType<typeof createAdapterRows>

export function createAdapterRows(options: AdapterRowsOptions) {
  const { config, rows, minWidth, patience = 16, target = cpuTarget } = options
  const { device = null, sites: modules } = options
  const { operators, floats } = target
  const emptyWidth = operators === 'cpu' ? 0 : 1
  const sites = createSites(config, modules, floats)
  const siteIndex = new Map(sites.map(({ key }, i) => [key, i]))
  const numTensors = 2 * sites.length
  const mirror =
    device && numTensors > 0 ? createRowMirror({ ...device, floats, numTensors }) : null
  const held: (Row | undefined)[] = Array.from({ length: rows }, () => undefined)
  let isLaidOut = false

  /** Lays out anew the sites whose width does not fit rows 0 … count − 1; returns their indices. */
  function refit(count: number): Set<number> {
    const found = new Set<number>()
    for (const [i, site] of sites.entries()) {
      let needed = 0
      for (let row = 0; row < count; row++) {
        needed = Math.max(needed, held[row]!.updates[i]!.length)
      }
      const wanted = needed === 0 ? emptyWidth : rowWidth(Math.max(needed, minWidth))
      site.numTooWide = wanted < site.width ? site.numTooWide + 1 : 0
      if (wanted <= site.width && site.numTooWide < patience) continue
      if (wanted === site.width) continue
      layOut(i, wanted)
      found.add(i)
    }
    return found
  }

  function layOut(i: number, width: number): void {
    const site = sites[i]!
    site.a.release()
    site.b.release()
    site.width = width
    site.numTooWide = 0
    site.a = allocateTensor(floats, [rows * width * site.inner])
    site.b = allocateTensor(floats, [rows * width * site.outer])
    mirror?.layOut(2 * i, [rows, site.inner, width])
    mirror?.layOut(2 * i + 1, [rows, width, site.outer])
  }

  function copyToDevice(row: number): void {
    const sources = sites.flatMap(({ width, inner, outer, a, b }) => [
      a.view([1, inner, width], row * width * inner),
      b.view([1, width, outer], row * width * outer),
    ])
    try {
      mirror?.copyRow(row, sources)
    } finally {
      for (const tensor of sources) tensor.release()
    }
  }

  return {
    /** Width of the widest site. */
    get width() {
      return Math.max(0, ...sites.map(({ width }) => width))
    },

    /**
     * Makes rows 0 … n − 1 hold these components. True when the memory was laid out anew, so that
     * earlier views must not be used any more.
     */
    write(rowComponents: readonly (readonly ScaledRankOne[])[]): boolean {
      const changed: number[] = []
      for (const [row, components] of rowComponents.entries()) {
        if (areSame(held[row]?.components, components)) continue
        held[row] = { components, updates: updatesBySite(components, siteIndex, sites.length) }
        changed.push(row)
      }
      const count = rowComponents.length
      const moved = refit(count)
      for (const [i, site] of sites.entries()) {
        const stale = moved.has(i) ? held.slice(0, count).keys() : changed
        for (const row of stale) writeRow(site, row, held[row]!.updates[i]!, floats)
      }
      if (mirror !== null) {
        for (const row of moved.size > 0 ? held.slice(0, count).keys() : changed) copyToDevice(row)
      }
      // Rows that are not in the batch were not written into the new layout.
      if (moved.size > 0) held.fill(undefined, count)
      const isNew = moved.size > 0 || !isLaidOut
      isLaidOut = true
      return isNew
    },

    /** The first `count` rows under the names of the graph. */
    view(count: number): Map<string, AnyTensor> {
      const inputs = new Map<string, AnyTensor>()
      for (const [i, site] of sites.entries()) {
        const { nameA, nameB, inner, outer, width } = site
        const a = mirror?.tensor(2 * i) ?? site.a
        const b = mirror?.tensor(2 * i + 1) ?? site.b
        inputs.set(nameA, a.view([count, inner, width]))
        inputs.set(nameB, b.view([count, width, outer]))
      }
      return inputs
    },

    release(): void {
      mirror?.release()
      for (const { a, b } of sites) for (const tensor of [a, b]) tensor.release()
    },
  }
}

/** All without width, layer by layer. */
function createSites(
  config: ModelConfig,
  modules: readonly LinearModule[],
  floats: FloatType,
): Site[] {
  return Array.from({ length: config.numLayers }, (_, layer) =>
    modules.map((module) => ({
      key: keyOf(layer, module),
      nameA: adapterA(layer, module),
      nameB: adapterB(layer, module),
      ...moduleShape(config, module),
      width: 0,
      numTooWide: 0,
      a: allocateTensor(floats, [0]),
      b: allocateTensor(floats, [0]),
    })),
  ).flat()
}

function keyOf(layer: number, module: LinearModule): string {
  return `${layer}.${module}`
}

function writeRow(site: Site, row: number, updates: readonly Update[], floats: FloatType): void {
  const { width, inner, outer } = site
  if (width === 0) return
  const a = site.a.data.subarray(row * width * inner, (row + 1) * width * inner)
  const b = site.b.data.subarray(row * width * outer, (row + 1) * width * outer)
  if (updates.length < width) a.fill(0)
  for (const [i, update] of updates.entries()) {
    const column = floats === 'float16' ? toHalves(update.a) : update.a
    if (width === 1) a.set(column)
    else for (let k = 0, at = i; k < inner; k++, at += width) a[at] = column[k]!
    const into = b.subarray(i * outer, (i + 1) * outer)
    if (floats === 'float16') into.set(toHalves(update.b.map((value) => update.scale * value)))
    else if (update.scale === 1) into.set(update.b)
    else for (let k = 0; k < outer; k++) into[k] = update.scale * update.b[k]!
  }
  b.fill(0, updates.length * outer)
}

function areSame(x: readonly ScaledRankOne[] | undefined, y: readonly ScaledRankOne[]): boolean {
  if (x === y) return true
  if (x?.length !== y.length) return false
  return x.every(({ component, scale }, i) => {
    return component === y[i]?.component && scale === y[i]?.scale
  })
}

/** A row's updates by site; a module without a site is a bug. */
function updatesBySite(
  components: readonly ScaledRankOne[],
  siteIndex: ReadonlyMap<string, number>,
  numSites: number,
): Update[][] {
  const ordered: Update[][] = Array.from({ length: numSites }, () => [])
  for (const { component, scale } of components) {
    for (const { layer, module, a, b } of component) {
      const index = siteIndex.get(keyOf(layer, module))
      if (index === undefined) {
        throw new Error(`the graph has no adapter site for ${layer}.${module}`)
      }
      ordered[index]!.push({ a, b, scale })
    }
  }
  return ordered
}
