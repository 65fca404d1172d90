// The header of a safetensors file, read as strictly as its owners ask: every length is checked
// before anything is allocated, tensors tile the data without hole or overlap, and no key is
// given twice. Pure: takes bytes, returns a Map (a tensor may be called "__proto__").

import { isObject } from '../contracts/json.ts'
import { quoteName } from '../contracts/printable.ts'

/** Bits per element of every dtype the format knows. */
const dtypeBits: ReadonlyMap<string, number> = new Map([
  ['BOOL', 8],
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
])

/** The format allows 100 MB; the largest real headers are well under 1 MB. */
const maxHeaderBytes = 10_000_000

export interface TensorInfo {
  readonly dtype: string
  readonly shape: readonly number[]
  /** Byte offsets in the file (not in its data part). */
  readonly begin: number
  readonly end: number
}

export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly metadata: ReadonlyMap<string, string>
}

/** How a rule that was broken is thrown; the message is one clause without a full stop. */
export type Fail = (message: string) => never

/** Reads the first 8 bytes: the header's length, checked against the file's. */
export function readHeaderLength(prefix: Buffer, fileSize: number, fail: Fail): number {
  if (fileSize < 8 || prefix.length < 8) fail(`the file has ${fileSize} bytes, fewer than 8`)
  const length = prefix.readBigUInt64LE(0)
  if (length > BigInt(maxHeaderBytes)) {
    fail(`the header says it has ${length} bytes; at most ${maxHeaderBytes} are accepted`)
  }
  if (8 + Number(length) > fileSize) {
    fail(`the header says it has ${length} bytes, but the file has only ${fileSize}`)
  }
  return Number(length)
}

/** Parses the header's JSON (without its length prefix) and checks every rule of the format. */
export function parseHeader(json: Buffer, fileSize: number, fail: Fail): SafetensorsHeader {
  if (json[0] !== 0x7b) fail('the header does not begin with {')
  const text = decodeUtf8(json, fail)
  const header = parseObject(text, fail)
  const repeated = findDuplicateKey(text)
  if (repeated !== null) fail(`the header has the key ${quoteName(repeated)} twice`)

  const dataStart = 8 + json.length
  const tensors = new Map<string, TensorInfo>()
  let metadata: ReadonlyMap<string, string> = new Map()
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') metadata = parseMetadata(value, fail)
    else tensors.set(name, parseTensor(name, value, dataStart, fail))
  }
  checkTiling(tensors, dataStart, fileSize, fail)
  return { tensors, metadata }
}

function parseTensor(name: string, value: unknown, dataStart: number, fail: Fail): TensorInfo {
  const broken: Fail = (message) => fail(`tensor ${quoteName(name)}: ${message}`)
  if (!isObject(value)) broken('its entry is not an object')
  const { dtype, shape, data_offsets: offsets, ...others } = value as Record<string, unknown>
  const unknown = Object.keys(others)[0]
  if (unknown !== undefined) broken(`unknown field ${quoteName(unknown)}`)

  // No String(dtype): an object may come with a toString of its own.
  if (typeof dtype !== 'string') return broken('its dtype is no text')
  const bits = dtypeBits.get(dtype)
  if (bits === undefined) return broken(`unknown dtype ${quoteName(dtype)}`)
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    broken('its shape is not a list of whole numbers')
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    broken('data_offsets is not a pair of whole numbers')
  }
  const [begin, end] = offsets as [number, number]
  if (end < begin) broken(`data_offsets end (${end}) lies before their begin (${begin})`)

  let count = 1
  for (const size of shape as number[]) {
    count *= size
    if (!Number.isSafeInteger(count)) broken('its number of elements overflows')
  }
  const totalBits = count * bits!
  if (!Number.isSafeInteger(totalBits)) broken('its size in bytes overflows')
  if (totalBits % 8 !== 0) broken('its elements do not fill whole bytes')
  if (totalBits / 8 !== end - begin) {
    broken(
      `shape [${shape}] of ${dtype} needs ${totalBits / 8} bytes; data_offsets span ${end - begin}`,
    )
  }
  return {
    dtype: dtype as string,
    shape: shape as number[],
    begin: dataStart + begin,
    end: dataStart + end,
  }
}

/** Tensors must follow one another from the first byte of the data to the last of the file. */
function checkTiling(
  tensors: ReadonlyMap<string, TensorInfo>,
  dataStart: number,
  fileSize: number,
  fail: Fail,
): void {
  const ordered = [...tensors].sort(([, x], [, y]) => x.begin - y.begin || x.end - y.end)
  let position = dataStart
  for (const [name, { begin, end }] of ordered) {
    if (begin < position) fail(`tensor ${quoteName(name)} overlaps the tensor before it`)
    if (begin > position)
      fail(`there is a hole of ${begin - position} bytes before ${quoteName(name)}`)
    if (end > fileSize) fail(`tensor ${quoteName(name)} ends outside the file`)
    position = end
  }
  if (position !== fileSize) fail(`${fileSize - position} bytes follow the last tensor`)
}

function parseMetadata(value: unknown, fail: Fail): ReadonlyMap<string, string> {
  if (!isObject(value)) fail('__metadata__ is not an object')
  const entries = Object.entries(value as Record<string, unknown>)
  for (const [key, text] of entries) {
    if (typeof text !== 'string') fail(`__metadata__ ${quoteName(key)} is not a string`)
  }
  return new Map(entries as [string, string][])
}

function decodeUtf8(bytes: Buffer, fail: Fail): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return fail('the header is not UTF-8')
  }
}

function parseObject(text: string, fail: Fail): Record<string, unknown> {
  try {
    // The first byte is "{", so what parses is an object.
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return fail('the header is not JSON')
  }
}

/** First key that an object of this valid JSON text holds twice. JSON.parse would hide it. */
export function findDuplicateKey(json: string): string | null {
  // One Set of keys per open object, null per open array.
  const open: (Set<string> | null)[] = []
  for (let i = 0; i < json.length; i++) {
    const char = json[i]
    if (char === '{') open.push(new Set())
    else if (char === '[') open.push(null)
    else if (char === '}' || char === ']') open.pop()
    else if (char === '"') {
      const start = i
      for (i++; json[i] !== '"'; i++) if (json[i] === '\\') i++
      let after = i + 1
      while (after < json.length && ' \t\r\n'.includes(json[after]!)) after++
      const keys = open.at(-1)
      if (json[after] !== ':' || !keys) continue
      const key = JSON.parse(json.slice(start, i + 1)) as string
      if (keys.has(key)) return key
      keys.add(key)
    }
  }
  return null
}

function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
