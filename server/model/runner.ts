// Runs the decoder graph over a KV cache of fixed rows. Row r of every cache tensor belongs to one
// sequence; a step reads and appends in place. What a run returns is a view that the next run
// overwrites.

import type { ModelConfig } from '../contracts/checkpoint.ts'
import { bankA, bankB, pastKey, pastValue, presentKey, presentValue } from '../graph/decoder.ts'
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
  /** Slots of the adapter bank, slot 0 included. */
  readonly slots: number
  /** Most new tokens in one prefill. */
  readonly maxChunk: number
  /** Most components on one row. */
  readonly maxComponents: number
}

export type Runner = ReturnType<typeof createRunner>

/** Loads the graph and allocates cache and bank. Blocks while it does. */
export function createRunner(options: RunnerOptions) {
  const { config, rows, capacity, slots, maxChunk, maxComponents } = options
  const session = openSession({ path: options.graphPath, threads: options.threads })
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer)
  const cacheDims = [rows, config.numKvHeads, capacity, config.headDim]
  const keys = layers.map(() => allocateTensor('float32', cacheDims))
  const values = layers.map(() => allocateTensor('float32', cacheDims))
  const bank = {
    a: layers.map(() => allocateTensor('float32', [slots, config.hiddenSize])),
    b: layers.map(() => allocateTensor('float32', [slots, config.intermediateSize])),
  }
  for (const { a, b } of layers.map((layer) => ({ a: bank.a[layer]!, b: bank.b[layer]! }))) {
    a.data.fill(0, 0, config.hiddenSize)
    b.data.fill(0, 0, config.intermediateSize)
  }
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
      inputs.set(bankA(layer), bank.a[layer]!).set(bankB(layer), bank.b[layer]!)
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

  return {
    /** Float32 views of the adapter bank, one per layer. Never write while a run is under way. */
    bankViews: {
      a: bank.a.map((tensor) => tensor.data),
      b: bank.b.map((tensor) => tensor.data),
    },

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
      const headElements = capacity * config.headDim
      for (const tensor of [...keys, ...values]) {
        for (let head = 0; head < config.numKvHeads; head++) {
          const start = from * rowElements + head * headElements
          tensor.data.copyWithin(
            to * rowElements + head * headElements,
            start,
            start + length * config.headDim,
          )
        }
      }
    },

    release(): void {
      for (const bound of decodeBindings.values()) bound.release()
      for (const tensor of [...keys, ...values, ...bank.a, ...bank.b]) tensor.release()
      for (const tensor of [ids, seqlens, total, slotIds, scales, logits]) tensor.release()
      session.release()
    },
  }
}
