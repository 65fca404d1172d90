// Peer llama.cpp: through node-llama-cpp's prebuilt library (bench/peers/package.json pins it),
// driven at its lowest level: batches are put together here and decoded, and nothing is sampled, so
// that the loop is as bare as our own.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { pathToFileURL } from 'node:url'
import { writeGgufAdapter } from '../gguf/gguf-model.ts'
import { adapterAlpha, adapterName, randomAdapter } from '../models/random-adapters.ts'
import type { Shape } from '../models/shapes.ts'
import {
  type DecodeArgs,
  type Peer,
  type PrefillArgs,
  randomTokens,
  servePeer,
} from './protocol.ts'

export interface LlamaPeerSpec {
  /** bench/peers, where node-llama-cpp is installed. */
  readonly packageRoot: string
  readonly modelPath: string
  readonly adapterRoot: string
  readonly shape: Shape
  readonly threads: number
  readonly rows: number
  readonly capacity: number
  readonly past: number
}

/** What is used of the library's inside; its version is pinned, so this holds. */
interface NativeContext {
  initBatch(size: number): void
  addToBatch(sequence: number, position: number, tokens: Uint32Array, logits: Uint32Array): unknown
  decodeBatch(): Promise<void>
  removeTokenCellsFromSequence(sequence: number, from: number, to: number): boolean
  setLoras(loras: readonly unknown[], scales: readonly number[]): void
  getThreads(): number
  saveSequenceStateToFile(path: string, sequence: number, tokens: Uint32Array): Promise<number>
  loadSequenceStateFromFile(path: string, sequence: number, most: number): Promise<Uint32Array>
}

const batchSize = 512

async function open(spec: LlamaPeerSpec): Promise<Peer> {
  const require = createRequire(join(spec.packageRoot, 'package.json'))
  const library = await import(pathToFileURL(require.resolve('node-llama-cpp')).href)
  const llama = await library.getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    maxThreads: spec.threads,
    logLevel: 'error',
  })
  const model = await llama.loadModel({ modelPath: spec.modelPath, gpuLayers: 0 })
  const context = await model.createContext({
    sequences: spec.rows,
    contextSize: spec.capacity,
    batchSize,
    threads: { ideal: spec.threads, min: spec.threads },
  })
  const native: NativeContext = context._ctx

  async function decodeTokens(
    first: number,
    position: number,
    tokens: readonly (readonly number[])[],
  ) {
    native.initBatch(tokens.reduce((sum, { length }) => sum + length, 0))
    for (const [i, row] of tokens.entries()) {
      native.addToBatch(first + i, position, Uint32Array.from(row), Uint32Array.of(row.length - 1))
    }
    await native.decodeBatch()
  }

  /** A batch at a time. */
  async function prefill(row: number, tokens: readonly number[]): Promise<void> {
    native.removeTokenCellsFromSequence(row, 0, -1)
    for (let start = 0; start < tokens.length; start += batchSize) {
      await decodeTokens(row, start, [tokens.slice(start, start + batchSize)])
    }
  }

  const loras = new Map<number, unknown>()
  async function loraOf(index: number): Promise<unknown> {
    let lora = loras.get(index)
    if (lora === undefined) {
      mkdirSync(spec.adapterRoot, { recursive: true })
      const path = join(spec.adapterRoot, `${adapterName(index)}.gguf`)
      if (!existsSync(path)) {
        const { family } = spec.shape
        const layers = randomAdapter(spec.shape, index)
        writeGgufAdapter(path, layers, { alpha: adapterAlpha, family })
      }
      lora = await model._getOrLoadLora(path)
      loras.set(index, lora)
    }
    return lora
  }
  async function apply(index: number | null): Promise<void> {
    if (index === null) native.setLoras([], [])
    else native.setLoras([await loraOf(index)], [1])
  }

  const prompt = randomTokens(spec.past)
  let numFilled = 0
  /** Only rows that decode need the prompt; one is computed, the others get its cache by a file. */
  async function fill(streams: number): Promise<void> {
    if (numFilled >= streams) return
    const folder = mkdtempSync(join(tmpdir(), 'dutyfree-bench-'))
    const path = join(folder, 'row')
    try {
      if (numFilled === 0) await prefill(numFilled++, prompt)
      await native.saveSequenceStateToFile(path, 0, Uint32Array.from(prompt))
      for (; numFilled < streams; numFilled++) {
        await native.loadSequenceStateFromFile(path, numFilled, spec.capacity)
      }
    } finally {
      rmSync(folder, { recursive: true })
    }
  }

  /** The streams together, or one after the other where their adapters differ. */
  async function decode({ streams, tokens, past, adapters }: DecodeArgs) {
    await fill(streams)
    const distinct = [...new Set(adapters.slice(0, streams))]
    for (const index of distinct) if (index !== null) await loraOf(index)
    const turns =
      distinct.length <= 1
        ? [{ first: 0, count: streams, adapter: distinct[0] ?? null }]
        : adapters.map((adapter, first) => ({ first, count: 1, adapter }))
    const start = performance.now()
    for (const { first, count, adapter } of turns) {
      await apply(adapter)
      for (let step = 0; step < tokens; step++) {
        const rows = Array.from({ length: count }, (_, row) => [1000 + step + row])
        await decodeTokens(first, past + step, rows)
      }
    }
    const ms = performance.now() - start
    for (let row = 0; row < streams; row++) native.removeTokenCellsFromSequence(row, past, -1)
    await apply(null)
    return { ms, tokens: streams * tokens }
  }

  const packageJson = join(spec.packageRoot, 'node_modules', 'node-llama-cpp', 'package.json')
  const { version } = JSON.parse(readFileSync(packageJson, 'utf8'))
  return {
    info: {
      'node-llama-cpp': version,
      'llama.cpp': llama.llamaCppRelease?.release ?? 'unknown',
      systemInfo: llama.systemInfo,
      threads: native.getThreads(),
      flashAttention: String(context.flashAttention),
    },
    operations: {
      async prefill({ tokens, adapter }: PrefillArgs) {
        await apply(adapter)
        const input = randomTokens(tokens)
        const start = performance.now()
        await prefill(0, input)
        const ms = performance.now() - start
        await apply(null)
        if (tokens !== spec.past) await prefill(0, prompt)
        return { ms, tokens }
      },
      decode,
    },
  }
}

await servePeer(open)
