// Runs the decoder graph over a KV cache of fixed rows. Row r of every cache tensor belongs to one
// sequence; a step reads and appends in place. What a run returns is a view that the next run
// overwrites.

import { type LinearModule, type ModelConfig, moduleShape } from '../contracts/checkpoint.ts'
import { bankA, bankB } from '../graph/adapter-site.ts'
import { pastKey, pastValue, presentKey, presentValue } from '../graph/decoder.ts'
import { allocateTensor, type Binding, openSession, type Tensor } from './session.ts'

/** One rank-1 component on a row: its slot in the bank and its strength. */
export interface Component {
  readonly slot: number
  readonly scale: number
}

export interface PrefillInput {
  readonly row: number
  readonly tokens: readonly number[]
  /** Tokens of this row already in the cache. */
  readonly past: number
  readonly components: readonly Component[]
}

export interface DecodeRow {
  readonly token: number
  readonly past: number
  readonly components: readonly Component[]
}

export interface RunnerOptions {
  readonly graphPath: string
  readonly config: ModelConfig
  readonly threads: number
  /** Number of cache rows. */
  readonly rows: number
  /** Positions per row. */
  readonly capacity: number
  /** The modules that the graph was built to adapt. */
  readonly sites: readonly LinearModule[]
  /** Slots of the adapter bank, slot 0 included. */
  readonly slots: number
  /** Most new tokens in one prefill. */
  readonly maxChunk: number
  /** Most components on one row. */
  readonly maxComponents: number
}

/** The first positions of a cache row, in memory of their own. */
export interface SavedCacheRow {
  readonly memory: Tensor<'float32'>
  readonly length: number
  readonly bytes: number
  release(): void
}

export type Runner = ReturnType<typeof createRunner>

/** Loads the graph and allocates cache and bank. Blocks while it does. */
export function createRunner(options: RunnerOptions) {
  const { config, rows, capacity, sites, slots, maxChunk, maxComponents } = options
  const session = openSession({ path: options.graphPath, threads: options.threads })
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer)
  const cacheDims = [rows, config.numKvHeads, capacity, config.headDim]
  const keys = layers.map(() => allocateTensor('float32', cacheDims))
  const values = layers.map(() => allocateTensor('float32', cacheDims))
  const bank = layers.flatMap((layer) =>
    sites.map((module) => {
      const { inner, outer } = moduleShape(config, module)
      const a = allocateTensor('float32', [slots, inner])
      const b = allocateTensor('float32', [slots, outer])
      return { layer, module, a, b }
    }),
  )
  const ids = allocateTensor('int64', [Math.max(rows, maxChunk)])
  const seqlens = allocateTensor('int32', [rows])
  const total = allocateTensor('int32', [])
  const slotIds = allocateTensor('int64', [rows * maxComponents])
  const scales = allocateTensor('float32', [rows * maxComponents])
  const logits = allocateTensor('float32', [rows * config.vocabSize])

  const rowElements = config.numKvHeads * capacity * config.headDim
  const decodeBindings = new Map<string, { binding: Binding; release: () => void }>()

  /** Binds cache rows first … first + count, each with `tokens` new tokens. */
  function bindRows(first: number, count: number, tokens: number, components: number) {
    const made: Tensor[] = []
    const track = <T extends Tensor>(tensor: T): T => {
      made.push(tensor)
      return tensor
    }
    const inputs = new Map<string, Tensor>([
      ['input_ids', track(ids.view([count, tokens]))],
      ['seqlens_k', track(seqlens.view([count]))],
      ['total_sequence_length', total],
      ['adapter_slots', track(slotIds.view([count, components]))],
      ['adapter_scales', track(scales.view([count, components]))],
    ])
    const outputs = new Map<string, Tensor>([
      ['logits', track(logits.view([count, 1, config.vocabSize]))],
    ])
    const dims = [count, config.numKvHeads, capacity, config.headDim]
    for (const layer of layers) {
      const key = track(keys[layer]!.view(dims, first * rowElements))
      const value = track(values[layer]!.view(dims, first * rowElements))
      inputs.set(pastKey(layer), key).set(pastValue(layer), value)
      outputs.set(presentKey(layer), key).set(presentValue(layer), value)
    }
    for (const { layer, module, a, b } of bank) {
      inputs.set(bankA(layer, module), a).set(bankB(layer, module), b)
    }
    const binding = session.bind(inputs, outputs)
    return {
      binding,
      release: () => {
        binding.release()
        for (const tensor of made) tensor.release()
      },
    }
  }

  function writeComponents(rowComponents: readonly (readonly Component[])[]): number {
    const width = Math.max(1, ...rowComponents.map((components) => components.length))
    for (const [row, components] of rowComponents.entries()) {
      for (let i = 0; i < width; i++) {
        const component = components[i]
        slotIds.data[row * width + i] = BigInt(component?.slot ?? 0)
        scales.data[row * width + i] = component?.scale ?? 0
      }
    }
    return width
  }

  const positionBytes = 2 * config.numLayers * config.numKvHeads * config.headDim * 4

  /** Visits a row's keys and values head by head: `count` elements from `start` on, the at-th head. */
  function eachHead(
    row: number,
    length: number,
    visit: (cache: Float32Array, start: number, count: number, at: number) => void,
  ): void {
    let at = 0
    for (const tensor of [...keys, ...values]) {
      for (let head = 0; head < config.numKvHeads; head++) {
        const start = row * rowElements + head * capacity * config.headDim
        visit(tensor.data, start, length * config.headDim, at++)
      }
    }
  }

  return {
    /** The adapter bank's memory, one place per layer and site. */
    bankPlaces: bank.map(({ layer, module, a, b }) => ({ layer, module, a: a.data, b: b.data })),

    /** Appends one row's tokens; returns the last token's logits, [vocab]. */
    async prefill({ row, tokens, past, components }: PrefillInput): Promise<Float32Array> {
      for (const [i, token] of tokens.entries()) ids.data[i] = BigInt(token)
      seqlens.data[0] = past + tokens.length - 1
      total.data[0] = past + tokens.length
      const width = writeComponents([components])
      const bound = bindRows(row, 1, tokens.length, width)
      try {
        await bound.binding.run()
      } finally {
        bound.release()
      }
      return logits.data.subarray(0, config.vocabSize)
    },

    /** One token for each of rows 0 … n − 1; returns their logits, [n × vocab]. */
    async decode(batch: readonly DecodeRow[]): Promise<Float32Array> {
      let longest = 0
      for (const [row, { token, past }] of batch.entries()) {
        ids.data[row] = BigInt(token)
        seqlens.data[row] = past
        longest = Math.max(longest, past + 1)
      }
      total.data[0] = longest
      const width = writeComponents(batch.map(({ components }) => components))
      const key = `${batch.length}x${width}`
      let bound = decodeBindings.get(key)
      if (bound === undefined) {
        bound = bindRows(0, batch.length, 1, width)
        decodeBindings.set(key, bound)
      }
      await bound.binding.run()
      return logits.data.subarray(0, batch.length * config.vocabSize)
    },

    /** Copies the first `length` positions of a cache row over another's. */
    copyRow(from: number, to: number, length: number): void {
      const offset = (to - from) * rowElements
      eachHead(from, length, (cache, start, count) => {
        cache.copyWithin(start + offset, start, start + count)
      })
    },

    /** Bytes that `saveRow` takes for so many positions. */
    savedBytes: (length: number) => length * positionBytes,

    /** Copies the first `length` positions of a row out of the cache. */
    saveRow(row: number, length: number): SavedCacheRow {
      const memory = allocateTensor('float32', [(length * positionBytes) / 4])
      eachHead(row, length, (cache, start, count, at) => {
        memory.data.set(cache.subarray(start, start + count), at * count)
      })
      return { memory, length, bytes: length * positionBytes, release: () => memory.release() }
    },

    /** Copies the first `length` positions of a saved row into a row of the cache. */
    restoreRow(saved: SavedCacheRow, row: number, length: number): void {
      const stride = saved.length * config.headDim
      eachHead(row, length, (cache, start, count, at) => {
        cache.set(saved.memory.data.subarray(at * stride, at * stride + count), start)
      })
    },

    release(): void {
      for (const bound of decodeBindings.values()) bound.release()
      for (const tensor of [...keys, ...values]) tensor.release()
      for (const { a, b } of bank) for (const tensor of [a, b]) tensor.release()
      for (const tensor of [ids, seqlens, total, slotIds, scales, logits]) tensor.release()
      session.release()
    },
  }
}
