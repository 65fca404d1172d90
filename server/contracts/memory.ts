// What an engine takes, or may come to take, of the machine's memory: its parts as a plan holds them and
// as a refusal tells them. Bytes.

import { mebibytes } from './bytes.ts'

export interface MemoryParts {
  readonly weights: number
  /** Logits and activations of one run. */
  readonly workspace: number
  /** Adapters that are kept in memory. */
  readonly adapters: number
  /** The vectors of every row's own adapters, as the graph reads them. */
  readonly adapterRows: number
  /** Rows and saved beginnings of prompts together. */
  readonly kv: number
}

const names = {
  weights: 'weights',
  workspace: 'workspace',
  adapters: 'adapters',
  adapterRows: 'adapters of running rows',
  kv: 'KV cache',
} as const satisfies Record<keyof MemoryParts, string>

export function totalBytes(parts: MemoryParts): number {
  return partNames.reduce((sum, part) => sum + parts[part], 0)
}

/** "12 MiB (weights 4, …)" */
export function describeParts(parts: MemoryParts): string {
  const each = partNames.map((part) => `${names[part]} ${mebibytes(parts[part])}`)
  return `${mebibytes(totalBytes(parts))} MiB (${each.join(', ')})`
}

const partNames = Object.keys(names) as (keyof MemoryParts)[]
