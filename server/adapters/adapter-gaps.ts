// What adapter_config.json says that an adapter changes, beside what its file holds and does. The tensors
// decide what runs; a file that holds less than its config names, or changes nothing, is told of.

import { linearModules, type ModelConfig } from '../contracts/checkpoint.ts'
import { type AdapterMatrices, pathOfModule } from './adapter-tensors.ts'

/** target_modules, exclude_modules and layers_to_transform as they stand. */
export interface AdapterTargets {
  /** Names or endings of names, or a pattern; null: the config names none. */
  readonly modules: readonly string[] | string | null
  readonly excluded: readonly string[] | string | null
  /** null: every layer. */
  readonly layers: readonly number[] | null
}

interface TargetReport {
  /** What the config names and the file lacks, as sentences. */
  readonly gaps: readonly string[]
  /** What could not be compared. */
  readonly notes: readonly string[]
}

type Matches = (path: string) => boolean

const maxNamed = 3
const maxPatternLength = 500
// Patterns whose cost is bounded on a path: nothing repeats what repeats, nothing looks back.
const costlyPattern = /\)\s*[*+{]|\\[1-9k]|\(\?(?!:)|(\*.*){5}/

/** `held` are the paths of the modules in the file. */
export function compareTargets(
  { modules, excluded, layers }: AdapterTargets,
  held: ReadonlySet<string>,
  model: ModelConfig,
): TargetReport {
  if (modules === null) return { gaps: [], notes: [] }
  const isNamed = matcherOf(modules)
  const isExcluded = excluded === null ? () => false : matcherOf(excluded)
  if (isNamed === null || isExcluded === null) {
    const field = isNamed === null ? 'target_modules' : 'exclude_modules'
    const note = `adapter_config.json: ${field} is a pattern that is not compared with the tensors.`
    return { gaps: [], notes: [note] }
  }
  const all = pathsOf(model)
  const ofLayers = layers === null ? all : layers.flatMap((layer) => pathsOfLayer(model, layer))
  const missing = ofLayers.filter((path) => isNamed(path) && !isExcluded(path) && !held.has(path))
  return {
    gaps: [
      ...unknownLayers(layers, model),
      ...unknownNames(modules, all),
      ...(missing.length === 0 ? [] : [lack(missing)]),
    ],
    notes: [],
  }
}

function lack(missing: readonly string[]): string {
  return (
    `adapter_model.safetensors lacks ${missing.length} of the modules that adapter_config.json ` +
    `names: ${listed(missing)}.`
  )
}

function unknownLayers(layers: readonly number[] | null, { numLayers }: ModelConfig): string[] {
  const unknown = (layers ?? []).filter((layer) => layer < 0 || layer >= numLayers)
  if (unknown.length === 0) return []
  return [
    `adapter_config.json: layers_to_transform names layers that the model lacks: ` +
      `${listed(unknown.map(String))}; it has 0 to ${numLayers - 1}.`,
  ]
}

/** Names of the list that are no module which an adapter's file may hold. */
function unknownNames(modules: readonly string[] | string, all: readonly string[]): string[] {
  if (typeof modules === 'string') return []
  const unknown = modules.filter((name) => !all.some((path) => endsIn(path, name)))
  if (unknown.length === 0) return []
  const names = listed(unknown.map((name) => JSON.stringify(name.slice(0, 80))))
  return [
    `adapter_config.json: target_modules names ${names}, of which the file holds nothing that ` +
      'this server applies.',
  ]
}

/** PEFT's rules: an ending in a list, a whole name in a pattern. null: too costly to try. */
function matcherOf(value: readonly string[] | string): Matches | null {
  if (typeof value !== 'string') return (path) => value.some((name) => endsIn(path, name))
  if (value === 'all-linear') return () => true
  if (value.length > maxPatternLength || costlyPattern.test(value)) return null
  try {
    const pattern = new RegExp(`^(?:${value})$`)
    return (path) => pattern.test(path)
  } catch {
    return null
  }
}

function endsIn(path: string, name: string): boolean {
  return path === name || path.endsWith(`.${name}`)
}

function pathsOf(model: ModelConfig): string[] {
  return Array.from({ length: model.numLayers }, (_, layer) => pathsOfLayer(model, layer)).flat()
}

function pathsOfLayer({ numLayers }: ModelConfig, layer: number): string[] {
  if (layer < 0 || layer >= numLayers) return []
  return linearModules.map((module) => pathOfModule(layer, module))
}

function listed(names: readonly string[]): string {
  const more = names.length - maxNamed
  return `${names.slice(0, maxNamed).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/** null: everything that the file holds has an effect. */
export function findEffectGap(matrices: readonly AdapterMatrices[]): {
  readonly text: string
  readonly isWhole: boolean
} | null {
  const idle = matrices.filter((one) => !changesAnything(one)).length
  if (idle === 0) return null
  if (idle < matrices.length) {
    const text = `adapter_model.safetensors: ${idle} of its ${matrices.length} modules are zero and change nothing.`
    return { text, isWhole: false }
  }
  return {
    text: 'adapter_model.safetensors: every module is zero, so the adapter changes nothing.',
    isWhole: true,
  }
}

function changesAnything({ rank, a, b }: AdapterMatrices): boolean {
  const inner = a.length / rank
  const outer = b.length / rank
  for (let k = 0; k < rank; k++) {
    if (hasValue(a, k * inner, inner) && hasValue(b, k * outer, outer)) return true
  }
  return false
}

function hasValue(values: Float32Array, start: number, length: number): boolean {
  for (let i = start; i < start + length; i++) if (values[i] !== 0) return true
  return false
}
