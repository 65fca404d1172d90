// How the text of a flag becomes a value. Each parser throws an Error whose message says the rule and
// the value; config.ts puts the flag's name before it.

import { adapterNamePattern, maxAdapterScale } from './contracts/adapter.ts'
import {
  type BlockSize,
  blockSizes,
  inLayerOrder,
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
  return inLayerOrder(names)
}

export function apiKeys(value: string): readonly string[] {
  const keys = value.split(',').map((item) => item.trim())
  // The keys themselves never appear in an error line.
  if (keys.every((key) => /^[\x21-\x7e]{1,512}$/.test(key))) return keys
  throw new Error('must be 1–512 printable ASCII characters without spaces; commas separate keys')
}

/** One of them. */
export function apiKey(value: string): string {
  const keys = apiKeys(value)
  if (keys.length === 1) return keys[0]!
  throw new Error('must be one key, without commas')
}

/** In lower case, as headers are looked up. */
export function headerName(value: string): string {
  const isName = /^[A-Za-z0-9-]{1,64}$/.test(value)
  return isName ? value.toLowerCase() : fail('the name of a header such as x-forwarded-for', value)
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

/** Who judges. */
export type GuardChoice =
  | { readonly kind: 'auto' | 'none' }
  | { readonly kind: 'adapter'; readonly id: string }
  | { readonly kind: 'url'; readonly url: string }

export function guardChoice(value: string): GuardChoice {
  if (value === 'auto' || value === 'none') return { kind: value }
  const id = /^adapter:(.+)$/.exec(value)?.[1]
  if (id !== undefined && adapterNamePattern.test(id)) return { kind: 'adapter', id }
  // A key in the address would be in the process list, and in every log of it.
  const url = URL.canParse(value) ? new URL(value) : null
  const isHttp = url?.protocol === 'http:' || url?.protocol === 'https:'
  if (url !== null && isHttp && url.username === '' && url.password === '') {
    return { kind: 'url', url: value }
  }
  return fail('auto, none, adapter:<name> or an http(s) address without a key in it', value)
}

/** Bare addresses, each once. */
export function upstreamUrls(value: string): readonly string[] {
  const urls = list(value).map((item) => {
    const url = URL.canParse(item) ? new URL(item) : null
    const isHttp = url?.protocol === 'http:' || url?.protocol === 'https:'
    const isBare = url?.username === '' && url.pathname === '/' && url.search === ''
    if (url !== null && isHttp && isBare && url.password === '') return url.origin
    return fail('a comma list of http(s) addresses without a path or a key', item)
  })
  if (new Set(urls).size === urls.length) return urls
  return fail('a list of addresses, each once', value)
}

export function share(value: string): number {
  const number = /^\d+(\.\d+)?$/.test(value) ? Number(value) : Number.NaN
  return number >= 0 && number <= 1 ? number : fail('a number from 0 to 1', value)
}
