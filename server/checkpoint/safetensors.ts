// A safetensors file whose tensors are read one at a time by position, as bytes or as float32.
// Synchronous: checkpoints are read at start, adapters from a buffer that was read before.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { basename } from 'node:path'
import { halfValues } from '../contracts/float16.ts'
import { type ErrorCode, ServerError } from '../errors.ts'
import {
  type Fail,
  parseHeader,
  readHeaderLength,
  type SafetensorsHeader,
  type TensorInfo,
} from './safetensors-header.ts'

export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly metadata: ReadonlyMap<string, string>
  /** Bytes of the whole file. */
  readonly size: number
  readBytes(name: string): Buffer
  /** F32, F16, BF16 and F64 as float32 (F64 is rounded, the others are exact). */
  readFloat32(name: string): Float32Array
  /** The same of rows first … first + count − 1, a row being all that shares the first index. */
  readFloat32Rows(name: string, first: number, count: number): Float32Array
  close(): void
}

export interface SafetensorsOptions {
  /** Code of the ServerError thrown for a broken file. */
  readonly code: Extract<ErrorCode, 'invalid_adapter' | 'invalid_checkpoint'>
  /** How messages name the file; its base name by default. */
  readonly label?: string
}

/** Fills `target` from `position` in the file, or throws. */
type ReadAt = (target: Uint8Array, position: number) => void

const chunkBytes = 8 << 20
// fs.readSync takes at most 2^31 − 1 bytes.
const maxReadBytes = 1 << 30

export function openSafetensors(path: string, options: SafetensorsOptions): SafetensorsFile {
  const fail = failAs(options, options.label ?? basename(path))
  const fd = openFile(path, fail)
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) fail('it is not a regular file')
    const readAt: ReadAt = (target, position) => {
      let done = 0
      while (done < target.length) {
        const want = Math.min(target.length - done, maxReadBytes)
        const got = readSync(fd, target, done, want, position + done)
        if (got === 0) fail('the file became shorter while it was read')
        done += got
      }
    }
    const header = readHeader(stat.size, readAt, fail)
    return createReader(header, stat.size, readAt, () => closeSync(fd), fail)
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** The same over a file that is already in memory. */
export function safetensorsFromBuffer(
  bytes: Buffer,
  options: SafetensorsOptions & { readonly label: string },
): SafetensorsFile {
  const fail = failAs(options, options.label)
  const readAt: ReadAt = (target, position) => {
    target.set(bytes.subarray(position, position + target.length))
  }
  const header = readHeader(bytes.length, readAt, fail)
  return createReader(header, bytes.length, readAt, () => {}, fail)
}

function failAs({ code }: SafetensorsOptions, label: string): Fail {
  return function fail(message) {
    throw new ServerError(code, `${label}: ${message}.`)
  }
}

function openFile(path: string, fail: Fail): number {
  try {
    // O_NONBLOCK: a named pipe must not hold the process.
    return openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
  } catch (error) {
    return fail(`it cannot be opened (${(error as NodeJS.ErrnoException).code})`)
  }
}

function readHeader(size: number, readAt: ReadAt, fail: Fail): SafetensorsHeader {
  const prefix = Buffer.alloc(Math.min(8, size))
  readAt(prefix, 0)
  const json = Buffer.alloc(readHeaderLength(prefix, size, fail))
  readAt(json, 8)
  return parseHeader(json, size, fail)
}

function createReader(
  { tensors, metadata }: SafetensorsHeader,
  size: number,
  readAt: ReadAt,
  close: () => void,
  fail: Fail,
): SafetensorsFile {
  let isOpen = true

  function find(name: string): TensorInfo {
    if (!isOpen) throw new Error('safetensors file is closed')
    return tensors.get(name) ?? fail(`there is no tensor ${JSON.stringify(name)}`)
  }

  function converterOf(name: string): Convert {
    const { dtype } = find(name)
    return (
      converters[dtype] ??
      fail(`tensor ${JSON.stringify(name)} is ${dtype}; F32, F16, BF16 or F64 is needed`)
    )
  }

  return {
    tensors,
    metadata,
    size,
    readBytes(name) {
      const { begin, end } = find(name)
      const bytes = Buffer.allocUnsafeSlow(end - begin)
      readAt(bytes, begin)
      return bytes
    },
    readFloat32(name) {
      const { begin, end } = find(name)
      return converterOf(name)(readAt, begin, end)
    },
    readFloat32Rows(name, first, count) {
      const { shape, begin, end } = find(name)
      const numRows = shape[0] ?? 1
      if (first < 0 || first + count > numRows) throw new RangeError(`${name}: rows beyond its end`)
      const rowBytes = (end - begin) / numRows
      const from = begin + first * rowBytes
      return converterOf(name)(readAt, from, from + count * rowBytes)
    },
    close() {
      if (isOpen) close()
      isOpen = false
    },
  }
}

// ---- To float32. Little-endian machines only, as everything onnxruntime runs on. ----

type Convert = (readAt: ReadAt, begin: number, end: number) => Float32Array

const converters: Readonly<Record<string, Convert | undefined>> = {
  F32: (readAt, begin, end) => {
    const values = new Float32Array((end - begin) / 4)
    readAt(new Uint8Array(values.buffer), begin)
    return values
  },
  F16: (readAt, begin, end) => {
    const table = halfValues()
    const values = new Float32Array((end - begin) / 2)
    eachChunk(readAt, begin, end, (bytes, first) => {
      const halves = new Uint16Array(bytes.buffer, 0, bytes.length / 2)
      const at = first / 2
      for (let i = 0; i < halves.length; i++) values[at + i] = table[halves[i]!]!
    })
    return values
  },
  BF16: (readAt, begin, end) => {
    const values = new Float32Array((end - begin) / 2)
    const words = new Uint32Array(values.buffer)
    eachChunk(readAt, begin, end, (bytes, first) => {
      const halves = new Uint16Array(bytes.buffer, 0, bytes.length / 2)
      const at = first / 2
      for (let i = 0; i < halves.length; i++) words[at + i] = halves[i]! << 16
    })
    return values
  },
  F64: (readAt, begin, end) => {
    const values = new Float32Array((end - begin) / 8)
    eachChunk(readAt, begin, end, (bytes, first) => {
      values.set(new Float64Array(bytes.buffer, 0, bytes.length / 8), first / 8)
    })
    return values
  },
}

/** Calls `use` with each chunk and its offset from `begin`; the chunk's memory is used again. */
function eachChunk(
  readAt: ReadAt,
  begin: number,
  end: number,
  use: (bytes: Uint8Array, first: number) => void,
): void {
  const memory = new ArrayBuffer(Math.min(chunkBytes, end - begin))
  for (let position = begin; position < end; position += chunkBytes) {
    const bytes = new Uint8Array(memory, 0, Math.min(chunkBytes, end - position))
    readAt(bytes, position)
    use(bytes, position - begin)
  }
}
