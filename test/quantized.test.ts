// Quantised graphs against float32 graphs of the values that the integers stand for: every width,
// block and kind of zero, in both families, tied and untied.
//
// They cannot be equal. The kernels round activations to 8 bits, each block by its largest value, so
// every product is off by about 1 % of its size. Measured: 0.03 to 0.06 standard deviations of the
// logits. What a wrong layout would do is measured beside it.

import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { parseModelConfig } from '../server/checkpoint/checkpoint-config.ts'
import { expectedTensors } from '../server/checkpoint/checkpoint-tensors.ts'
import { blockSizes, type Kernels, type QuantizedFormat } from '../server/contracts/checkpoint.ts'
import { dequantizeRows, type QuantizedRows, quantizeRows } from '../server/graph/quantize.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { logitsInTwoRows } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { encodeSafetensors, pseudoRandom, type TestTensor } from './support/tensor-files.ts'

const tolerance = 0.1
const temp = createTempFolder()
const adapters = join(temp, 'adapters')
mkdirSync(adapters)

/** Rows of 144 and 208 fill no whole number of blocks. */
const shape = {
  hidden_size: 144,
  intermediate_size: 208,
  num_hidden_layers: 3,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  vocab_size: 320,
  max_position_embeddings: 64,
}
const families = {
  'Qwen2, tied': { ...shape, architectures: ['Qwen2ForCausalLM'], tie_word_embeddings: true },
  'Llama, untied, biases everywhere': {
    ...shape,
    architectures: ['LlamaForCausalLM'],
    attention_bias: true,
    mlp_bias: true,
  },
}
const formats = ([4, 8] as const).flatMap((bits) =>
  blockSizes.flatMap((block) =>
    [false, true].map((zeroPoints): QuantizedFormat => {
      return { kind: 'quantized', bits, block, zeroPoints, searchScales: bits === 4 }
    }),
  ),
)
const titleOf = ({ bits, block, zeroPoints }: QuantizedFormat) =>
  `int${bits}, block ${block}${zeroPoints ? ', zero points' : ''}`

type Tensors = Record<string, TestTensor & { readonly data: Float32Array }>

function randomTensors(config: object): Tensors {
  let seed = 0
  const entries = [...expectedTensors(parseModelConfig(config))].map(([name, dims]) => {
    const noise = pseudoRandom(
      dims.reduce((x, y) => x * y),
      ++seed,
    )
    // Blocks differ in size and in where their middle lies: one taken for another is far off.
    const data = name.includes('norm')
      ? noise.map((value) => 1 + value / 4)
      : noise.map((value, i) => {
          return value * 0.05 * (1 + (Math.floor(i / 48) % 3)) + 0.08 * Math.sin(i / 40)
        })
    return [name, { shape: dims, data }] as const
  })
  return Object.fromEntries(entries)
}

function writeCheckpoint(name: string, config: object, tensors: Tensors): string {
  const dir = join(temp, name)
  mkdirSync(dir)
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config))
  writeFileSync(join(dir, 'model.safetensors'), encodeSafetensors(tensors))
  return dir
}

const isQuantized = ({ shape: dims }: TestTensor) => dims.length === 2

type Change = (rows: QuantizedRows) => QuantizedRows

function roundTrip(tensors: Tensors, format: QuantizedFormat, change: Change): Tensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => {
      if (!isQuantized(tensor)) return [name, tensor]
      const options = { ...format, columns: tensor.shape[1] as number }
      const rows = change(quantizeRows(tensor.data, options))
      return [name, { ...tensor, data: dequantizeRows(rows, options) }]
    }),
  )
}

const prompt = [3, 17, 200, 45, 301, 9, 88, 150]

function logitsOf(
  checkpoint: string,
  format: QuantizedFormat | { kind: 'fp32' },
  kernels: Kernels,
) {
  return logitsInTwoRows({ checkpoint, adapters, format, kernels, capacity: 32 }, prompt)
}

const largest = (x: readonly number[], y: readonly number[]) =>
  Math.max(...x.map((value, i) => Math.abs(value - (y[i] as number))))

const deviation = (x: readonly number[]) =>
  Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length)

/** In standard deviations of the logits: graph against integers, integers against the weights. */
async function differences(
  config: object,
  format: QuantizedFormat,
  kernels: Kernels,
  change: Change,
) {
  const tensors = randomTensors(config)
  const plain = writeCheckpoint('plain', config, tensors)
  const rounded = writeCheckpoint('rounded', config, roundTrip(tensors, format, change))
  try {
    const got = await logitsOf(plain, format, kernels)
    const want = await logitsOf(rounded, { kind: 'fp32' }, kernels)
    const exact = await logitsOf(plain, { kind: 'fp32' }, kernels)
    const size = deviation(exact)
    return { kernel: largest(got, want) / size, weights: largest(want, exact) / size }
  } finally {
    rmSync(plain, { recursive: true })
    rmSync(rounded, { recursive: true })
  }
}

const asTheyAre: Change = (rows) => rows
const rotate = <T extends Uint8Array | Float32Array>(values: T): T => {
  const first = values[0] ?? 0
  values.copyWithin(0, 1)
  values[values.length - 1] = first
  return values
}

for (const kernels of ['onnxruntime', 'own'] as const) {
  const skip = kernels === 'own' && ownKernels() === null && 'not built for this machine'
  for (const [family, config] of Object.entries(families)) {
    describe(`quantised ${family}, kernels: ${kernels}`, { skip }, () => {
      for (const format of formats) {
        it(`${titleOf(format)}: the graph multiplies with what the integers stand for`, async (t) => {
          const { kernel, weights } = await differences(config, format, kernels, asTheyAre)
          t.diagnostic(`kernel ${kernel.toFixed(3)}, weights ${weights.toFixed(3)} sd`)
          assert.ok(kernel <= tolerance, `|Δ logit| is ${kernel} standard deviations`)
        })

        it(`${titleOf(format)}: a scale or zero of another block would be seen`, async () => {
          const scales = (rows: QuantizedRows) => ({ ...rows, scales: rotate(rows.scales) })
          const zeros = (rows: QuantizedRows) => ({ ...rows, zeroPoints: rotate(rows.zeroPoints) })
          for (const change of format.zeroPoints ? [scales, zeros] : [scales]) {
            const { kernel } = await differences(config, format, kernels, change)
            assert.ok(kernel > 3 * tolerance, `|Δ logit| is only ${kernel} standard deviations`)
          }
        })
      }
    })
  }
}
