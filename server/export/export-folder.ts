// A GGUF file as a folder of Hugging Face's, which transformers and PEFT load: the same numbers, in the
// type that is asked for. The folder appears when it is complete; a note in it names the file it came
// from, so that an adapter trained on the folder is one for the file.

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { baseDigestOf } from '../checkpoint/base-digest.ts'
import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.ts'
import { expectedTensors } from '../checkpoint/checkpoint-tensors.ts'
import { freeBytes } from '../checkpoint/disk-space.ts'
import { finiteTensors } from '../checkpoint/finite-tensors.ts'
import { type GgufNote, noteName } from '../checkpoint/gguf-note.ts'
import { makeFolder } from '../checkpoint/make-folder.ts'
import { sizeOf, type TensorToWrite, writeSafetensors } from '../checkpoint/safetensors-writer.ts'
import { weightsName } from '../checkpoint/weight-index.ts'
import { readableBytes } from '../contracts/bytes.ts'
import { flushFile, flushFolder } from '../conversion/disk-flush.ts'
import { hashFiles } from '../conversion/file-hashes.ts'
import { ServerError } from '../errors.ts'
import { openGguf } from '../gguf/gguf-file.ts'
import { readGgufGeneration } from '../gguf-model/generation.ts'
import { readGgufWeights } from '../gguf-model/tensors.ts'
import { readGgufTokenizer, readGgufTokenizerConfig } from '../gguf-model/tokenizer-files.ts'
import { type ExportType, encodings } from './float-types.ts'

export interface ExportOptions {
  /** The GGUF file; the first of a split one. */
  readonly model: string
  readonly output: string
  readonly type: ExportType
  readonly onProgress?: (what: string, done: number, total: number) => void
}

const piece = 1 << 22

/** Gives the note it wrote. Rejects with ServerError. */
export async function exportFolder(options: ExportOptions): Promise<GgufNote> {
  const { model, output, type, onProgress = () => {} } = options
  requireNew(output)
  const checkpoint = openCheckpoint(model)
  const partial = `${output}.partial-${process.pid}`
  try {
    makeFolder(dirname(output))
    requireSpace(dirname(output), checkpoint.numParameters * encodings[type].bytes)
    const paths = checkpoint.files.map(({ path }) => path)
    const hashes = await hashFiles(paths, (done, total) => onProgress('reading', done, total))
    const base = baseDigestOf(hashes.map(({ path, sha256 }) => ({ name: basename(path), sha256 })))
    mkdirSync(partial)
    const descriptions = describe(model, type)
    for (const [name, json] of Object.entries(descriptions)) writeJson(partial, name, json)
    const tensors = tensorsOf(checkpoint, options)
    const weights = writeSafetensors(join(partial, weightsName), tensors, encodings[type])
    const note = {
      source: basename(model),
      base_digest: base,
      weights_digest: weights,
      dtype: type,
    }
    writeJson(partial, noteName, note)
    flushFolder(partial)
    rmSync(output, { recursive: true, force: true })
    renameSync(partial, output)
    flushFolder(dirname(output))
    return note
  } finally {
    checkpoint.close()
    rmSync(partial, { recursive: true, force: true })
  }
}

function requireNew(output: string): void {
  if (!existsSync(output) || isEmptyFolder(output)) return
  throw new ServerError(
    'invalid_config',
    `--output must be a folder that does not exist yet; ${output} does: remove it or name another`,
  )
}

function isEmptyFolder(path: string): boolean {
  try {
    return readdirSync(path).length === 0
  } catch {
    return false
  }
}

function requireSpace(folder: string, bytes: number): void {
  const free = freeBytes(folder)
  if (free === null || free >= bytes) return
  throw new ServerError(
    'invalid_config',
    `The export needs ${readableBytes(bytes)} in ${folder} and ${readableBytes(free)} are free there: ` +
      'make room, name a folder on another disk with --output, or ask for --dtype bfloat16',
  )
}

/** Every file but the weights. */
function describe(model: string, type: ExportType): Record<string, unknown> {
  const file = openGguf(model)
  try {
    const generation = readGgufGeneration(file)
    const { do_sample, temperature, top_k, top_p, min_p, ...ids } = generation
    return {
      'config.json': { ...readGgufWeights(file).config, ...ids, torch_dtype: type },
      'generation_config.json': generation,
      'tokenizer.json': readGgufTokenizer(file),
      'tokenizer_config.json': readGgufTokenizerConfig(file),
    }
  } finally {
    file.close()
  }
}

function writeJson(folder: string, name: string, json: unknown): void {
  const path = join(folder, name)
  writeFileSync(path, `${JSON.stringify(json, null, name === 'tokenizer.json' ? 0 : 2)}\n`)
  flushFile(path)
}

function tensorsOf(
  { config, tensors, numParameters }: Checkpoint,
  { type, onProgress = () => {} }: ExportOptions,
): TensorToWrite[] {
  const { read, readRows } = finiteTensors(tensors)
  let done = 0

  function* pieces(name: string, shape: readonly number[]): Generator<Uint8Array> {
    const [rows = 1, ...inner] = shape
    const length = sizeOf(inner)
    const atOnce = Math.max(1, Math.floor(piece / length))
    for (let first = 0; first < rows; first += atOnce) {
      const count = Math.min(atOnce, rows - first)
      const values = inner.length === 0 ? read(name) : readRows(name, first, count)
      requireRange(name, values, type)
      yield encodings[type].encode(values)
      done += values.length
      onProgress('writing', done, numParameters)
      if (inner.length === 0) return
    }
  }

  return [...expectedTensors(config)].map(([name, shape]) => ({
    name,
    shape,
    pieces: () => pieces(name, shape),
  }))
}

const largestHalf = 65_504

function requireRange(name: string, values: Float32Array, type: ExportType): void {
  if (type !== 'float16') return
  const beyond = values.find((value) => Math.abs(value) > largestHalf)
  if (beyond === undefined) return
  throw new ServerError(
    'invalid_config',
    `--dtype float16 holds numbers up to ${largestHalf}, and ${name} has ${beyond}: use bfloat16 or float32`,
  )
}
