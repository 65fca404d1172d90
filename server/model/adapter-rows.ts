// What each row of a batch is adapted with, as the graph reads it: at each place the row's components
// side by side, strengths folded into b, in native memory. A row is written only when its components
// change, so a step of a batch that stays the same writes nothing, and any adapter in memory is one
// copy away from running. The rows share a width at each place; what a row does not fill is zeros,
// which add nothing, and a place that no row changes has no width at all and costs nothing (on an
// accelerator: a width of one, all zeros).

import { rowWidth, type ScaledComponent } from '../contracts/adapter.ts'
import {
  cpuTarget,
  type FloatType,
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
  moduleShape,
} from '../contracts/checkpoint.ts'
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
  /** A place that is changed at all is at least so wide. */
  readonly minWidth: number
  /** Writes after which a place that could be narrower becomes it. */
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

interface Place {
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

/** What a row holds; `updates` by place, in the order of the components. */
interface Row {
  readonly components: readonly ScaledComponent[]
  readonly updates: readonly (readonly Update[])[]
}

export type AdapterRows = ReturnType<typeof createAdapterRows>

export function createAdapterRows(options: AdapterRowsOptions) {
  const { config, sites, rows, minWidth, patience = 16, target = cpuTarget } = options
  const { device = null } = options
  const { operators, floats } = target
  const emptyWidth = operators === 'cpu' ? 0 : 1
  const places: Place[] = []
  const placeOf = new Map<string, number>()
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const module of sites) {
      placeOf.set(`${layer}.${module}`, places.length)
      places.push({
        nameA: adapterA(layer, module),
        nameB: adapterB(layer, module),
        ...moduleShape(config, module),
        width: 0,
        numTooWide: 0,
        a: allocateTensor(floats, [0]),
        b: allocateTensor(floats, [0]),
      })
    }
  }
  const numTensors = 2 * places.length
  const mirror =
    device && numTensors > 0 ? createRowMirror({ ...device, floats, numTensors }) : null
  const held: (Row | undefined)[] = Array.from({ length: rows }, () => undefined)
  let isLaidOut = false

  /** Whose width must change for these rows. */
  function misfits(count: number): Set<number> {
    const found = new Set<number>()
    for (const [p, place] of places.entries()) {
      let needed = 0
      for (let row = 0; row < count; row++) {
        needed = Math.max(needed, held[row]!.updates[p]!.length)
      }
      const wanted = needed === 0 ? emptyWidth : rowWidth(Math.max(needed, minWidth))
      place.numTooWide = wanted < place.width ? place.numTooWide + 1 : 0
      if (wanted <= place.width && place.numTooWide < patience) continue
      if (wanted === place.width) continue
      layOut(p, wanted)
      found.add(p)
    }
    return found
  }

  function layOut(p: number, width: number): void {
    const place = places[p]!
    place.a.release()
    place.b.release()
    place.width = width
    place.numTooWide = 0
    place.a = allocateTensor(floats, [rows * width * place.inner])
    place.b = allocateTensor(floats, [rows * width * place.outer])
    mirror?.layOut(2 * p, [rows, place.inner, width])
    mirror?.layOut(2 * p + 1, [rows, width, place.outer])
  }

  function copyToDevice(row: number): void {
    const sources = places.flatMap(({ width, inner, outer, a, b }) => [
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
    /** The widest place. */
    get width() {
      return Math.max(0, ...places.map(({ width }) => width))
    },

    /**
     * Makes rows 0 … n − 1 hold these components. True when the memory was laid out anew, so that
     * earlier views must not be used any more.
     */
    write(rowComponents: readonly (readonly ScaledComponent[])[]): boolean {
      const changed: number[] = []
      for (const [row, components] of rowComponents.entries()) {
        if (areSame(held[row]?.components, components)) continue
        held[row] = { components, updates: updatesByPlace(components, placeOf, places.length) }
        changed.push(row)
      }
      const count = rowComponents.length
      const moved = misfits(count)
      for (const [p, place] of places.entries()) {
        const stale = moved.has(p) ? held.slice(0, count).keys() : changed
        for (const row of stale) writeRow(place, row, held[row]!.updates[p]!, floats)
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
      for (const [p, place] of places.entries()) {
        const { nameA, nameB, inner, outer, width } = place
        const a = mirror?.tensor(2 * p) ?? place.a
        const b = mirror?.tensor(2 * p + 1) ?? place.b
        inputs.set(nameA, a.view([count, inner, width]))
        inputs.set(nameB, b.view([count, width, outer]))
      }
      return inputs
    },

    release(): void {
      mirror?.release()
      for (const { a, b } of places) for (const tensor of [a, b]) tensor.release()
    },
  }
}

function writeRow(place: Place, row: number, updates: readonly Update[], floats: FloatType): void {
  const { width, inner, outer } = place
  if (width === 0) return
  const a = place.a.data.subarray(row * width * inner, (row + 1) * width * inner)
  const b = place.b.data.subarray(row * width * outer, (row + 1) * width * outer)
  if (updates.length < width) a.fill(0)
  for (const [i, update] of updates.entries()) {
    const column = floats === 'float16' ? toHalves(update.a) : update.a
    if (width === 1) a.set(column)
    else for (let k = 0, at = i; k < inner; k++, at += width) a[at] = column[k] as number
    const into = b.subarray(i * outer, (i + 1) * outer)
    if (floats === 'float16') into.set(toHalves(update.b.map((value) => update.scale * value)))
    else if (update.scale === 1) into.set(update.b)
    else for (let k = 0; k < outer; k++) into[k] = update.scale * (update.b[k] as number)
  }
  b.fill(0, updates.length * outer)
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

/** A row's updates in the order of the places; a module without a site is a bug. */
function updatesByPlace(
  components: readonly ScaledComponent[],
  placeOf: ReadonlyMap<string, number>,
  numPlaces: number,
): Update[][] {
  const ordered: Update[][] = Array.from({ length: numPlaces }, () => [])
  for (const { component, scale } of components) {
    for (const { layer, module, a, b } of component) {
      const place = placeOf.get(`${layer}.${module}`)
      if (place === undefined) {
        throw new Error(`the graph has no adapter site for ${layer}.${module}`)
      }
      ordered[place]!.push({ a, b, scale })
    }
  }
  return ordered
}
