// How the text of a flag becomes a value. Each parser throws an Error whose message says the rule and
// the value; config.ts puts the flag's name before it.

import { adapterNamePattern, maxAdapterScale } from './contracts/adapter.ts'
import {
  type BlockSize,
  blockSizes,
  type LinearModule,
  linearModules,
} from './contracts/checkpoint.ts'

function fail(rule: string, got: string): never {
  throw new Error(`must be ${rule}; got ${JSON.stringify(got.slice(0, 80))}`)
}

export function text(value: string): string {
  return value === '' ? fail('a non-empty text', value) : value
}

export function integer(min: number, max: number) {
  return function parseInteger(value: string): number {
    const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN
    return number >= min && number <= max
      ? number
      : fail(`a whole number from ${min} to ${max}`, value)
  }
}

export function oneOf<const T extends string>(all: readonly T[]) {
  return function parseChoice(value: string): T {
    return all.find((choice) => choice === value) ?? fail(`one of ${all.join(', ')}`, value)
  }
}

/** Takes no other text than the sizes that the kernels know. */
export function blockSize(value: string): BlockSize {
  return (
    blockSizes.find((size) => String(size) === value) ??
    fail(`one of ${blockSizes.join(', ')}`, value)
  )
}

export function onOff(value: string): boolean {
  return oneOf(['on', 'off'])(value) === 'on'
}

const sizeUnits: Record<string, number> = {
  '': 1,
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
}

/** "2MB", "4GiB", "65536": bytes. */
export function parseSize(value: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([A-Za-z]*)$/.exec(value)
  const unit = match === null ? undefined : sizeUnits[match[2]!]
  const bytes = unit === undefined ? Number.NaN : Math.floor(Number(match?.[1]) * unit)
  return bytes >= 1 && Number.isSafeInteger(bytes)
    ? bytes
    : fail('a size such as 65536, 2MB or 4GiB', value)
}

const durationUnits: Record<string, number> = { ms: 1, '': 1e3, s: 1e3, m: 60e3, h: 3600e3 }

/** "600", "600s", "10m", "250ms": milliseconds. */
export function parseDuration(value: string): number {
  const match = /^(\d+(?:\.\d+)?) ?(ms|s|m|h|)$/.exec(value)
  const ms = match === null ? Number.NaN : Number(match[1]) * (durationUnits[match[2] ?? ''] ?? 0)
  // Node's timers hold at most 2^31 − 1 ms.
  return ms >= 0 && ms <= 2_147_483_647
    ? Math.floor(ms)
    : fail('a duration up to 24 days such as 600, 600s or 10m', value)
}

export function positiveDuration(value: string): number {
  return parseDuration(value) || fail('a duration above 0 such as 600, 600s or 10m', value)
}

export function list(value: string): readonly string[] {
  const items = value.split(',').map((item) => item.trim())
  return items.some((item) => item === '') ? fail('a comma list without empty items', value) : items
}

/** Linear modules, each once, in the order of a layer. */
export function modules(value: string): readonly LinearModule[] {
  const names = value.split(',').map((name) => name.trim())
  const unknown = names.find((name) => !linearModules.some((module) => module === name))
  if (unknown !== undefined) return fail(`a comma list of ${linearModules.join(', ')}`, value)
  return linearModules.filter((module) => names.includes(module))
}

export function apiKeys(value: string): readonly string[] {
  const keys = value.split(',').map((item) => item.trim())
  // The keys themselves never appear in an error line.
  if (keys.every((key) => /^[\x21-\x7e]{1,512}$/.test(key))) return keys
  throw new Error('must be 1–512 printable ASCII characters without spaces; commas separate keys')
}

export function origins(value: string): readonly string[] {
  for (const origin of list(value)) {
    if (origin !== '*' && !/^https?:\/\/[^/\s]+$/.test(origin)) {
      fail('* or a comma list of origins such as https://app.example.com', value)
    }
  }
  return list(value)
}

export function adapterStrength(value: string): { id: string; scale: number | null } {
  const [id = '', scale, ...rest] = value.split(':')
  const rule = `<name>[:<strength>] with a strength from 0 to ${maxAdapterScale}`
  if (!adapterNamePattern.test(id) || id === 'none' || rest.length > 0) return fail(rule, value)
  if (scale === undefined) return { id, scale: null }
  const number = /^\d+(\.\d+)?$/.test(scale) ? Number(scale) : Number.NaN
  return number <= maxAdapterScale ? { id, scale: number } : fail(rule, value)
}

export function requiredAdapter(value: string): { id: string; minScale: number | null } {
  const { id, scale } = adapterStrength(value)
  return { id, minScale: scale }
}
