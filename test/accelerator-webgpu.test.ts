// The model on a GPU against the model on the CPU. Runs on any device that WebGPU finds; in CI that
// is SwiftShader, a GPU in software, which proves the numbers and nothing about speed.
// The longest of all tests: its name lets it begin first, so that no core waits for it at the end.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import type { ScaledRankOne } from '../server/contracts/adapter.ts'
import {
  type LinearModule,
  linearModules,
  type WeightFormat,
} from '../server/contracts/checkpoint.ts'
import type { FloatType } from '../server/contracts/float-type.ts'
import { createGraphBuilder } from '../server/graph/builder.ts'
import { encodeModel } from '../server/graph/encoding.ts'
import { createDeviceKvCache } from '../server/model/device-kv-cache.ts'
import { relativeDifference } from '../server/model/self-test.ts'
import { cpuDevice } from '../server/runtime/device.ts'
import { allocateTensor, openSession } from '../server/runtime/session.ts'
import { lacksGpu, requireGpu } from './support/gpu.ts'
import { writeRandomCheckpoint } from './support/random-checkpoint.ts'
import { startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { openServedModel } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { upTensors, writeAdapter } from './support/tensor-files.ts'

const reasoner = join(root, 'models', 'tiny-reasoner')
const folder = createTempFolder()

/**
 * Root mean square of the difference as a part of the logits' spread. float32 is summed in another
 * order (1e-6 seen), float16 is rounded at every step (8e-3), and integers multiply activations that
 * the CPU and a GPU round in other blocks (5e-2).
 */
/** Stored weights are for the CPU only. */
const tolerances = { fp32: 1e-4, fp16: 0.03, quantized: 0.15, stored: 0 }

interface Reply {
  readonly choices: ReadonlyArray<{ readonly message: { readonly reasoning: string } }>
  readonly adapter: ReadonlyArray<{ readonly id: string }>
}

type Model = Awaited<ReturnType<typeof openServedModel>>
type Strengths = Readonly<Record<string, number>>

interface Precision {
  readonly format: WeightFormat
  readonly floats: FloatType
}
const float32: Precision = { format: { kind: 'fp32' }, floats: 'float32' }

function writeCase(architecture: 'qwen2' | 'llama', seed: number) {
  const checkpoint = writeRandomCheckpoint(join(folder, architecture), architecture, seed)
  const adapters = join(folder, `${architecture}-adapters`)
  const opened = openCheckpoint(checkpoint)
  const { config: model } = opened
  opened.close()
  for (const [i, id] of ['one', 'two'].entries()) {
    const tensors = upTensors({ rank: i + 1, seed: seed + i, layers: [0, 1], model })
    writeAdapter(adapters, id, { config: { r: i + 1, lora_alpha: 0.3 * (i + 1) }, tensors })
  }
  // Llama's with a site on every module, most of them never filled.
  const sites: readonly LinearModule[] = architecture === 'llama' ? linearModules : ['up_proj']
  return { checkpoint, adapters, sites, rows: 4, capacity: 64 }
}

/** What a decoding row is told, step after step. */
interface Row {
  readonly tokens: readonly number[]
  readonly strengths: Strengths
}

const rows: readonly Row[] = [
  { tokens: [3, 14, 15, 92, 65, 35], strengths: {} },
  { tokens: [27, 18, 28], strengths: { one: 1 } },
  { tokens: [57, 72, 15, 66, 49], strengths: { two: 0.7, one: 0.5 } },
]

/** Prefills each row, the long one in two chunks, then decodes all of them; returns every logit. */
async function runRows(model: Model, batch: readonly Row[], steps: number) {
  const { runner } = model
  const results: Float32Array[] = []
  const components: ScaledRankOne[][] = []
  for (const [row, { tokens, strengths }] of batch.entries()) {
    const own = [...(await model.components(strengths))]
    components.push(own)
    const middle = tokens.length > 5 ? 3 : 0
    if (middle > 0) {
      await runner.prefill({ row, tokens: tokens.slice(0, middle), past: 0, components: own })
    }
    const rest = { row, tokens: tokens.slice(middle), past: middle, components: own }
    results.push((await runner.prefill(rest)).slice())
  }
  const { vocabSize } = model.config
  for (let step = 0; step < steps; step++) {
    const logits = await runner.decode(
      batch.map(({ tokens }, row) => ({
        token: (tokens[0] ?? 0) + 7 * step,
        past: tokens.length + step,
        components: components[row] ?? [],
      })),
    )
    for (const row of batch.keys()) {
      results.push(logits.slice(row * vocabSize, (row + 1) * vocabSize))
    }
  }
  return results
}

function assertClose(
  got: readonly Float32Array[],
  expected: readonly Float32Array[],
  tolerance: number,
): void {
  assert.equal(got.length, expected.length)
  for (const [i, logits] of got.entries()) {
    const difference = relativeDifference(logits, expected[i] as Float32Array)
    assert.ok(difference <= tolerance, `result ${i} differs by ${difference}`)
  }
}

describe('webgpu', { skip: lacksGpu }, () => {
  const qwen2 = writeCase('qwen2', 1)
  const llama = writeCase('llama', 2)
  const open = (options: Parameters<typeof openServedModel>[0]) =>
    openServedModel({ ...options, device: requireGpu() })

  // Each width of integers with one of them: a GPU in software takes its time over them.
  const plain = { zeroPoints: false, searchScales: true }
  const withZeros = { zeroPoints: true, searchScales: false }
  for (const [name, options, bits, layout] of [
    ['qwen2', qwen2, 4, plain],
    ['llama', llama, 8, withZeros],
  ] as const) {
    it(`gives the CPU's logits for rows with different adapters and lengths (${name})`, async () => {
      const halves: FloatType = requireGpu().hasFloat16 ? 'float16' : 'float32'
      const precisions: Precision[] = [
        float32,
        { format: { kind: 'quantized', bits, block: 32, ...layout }, floats: halves },
      ]
      if (halves === 'float16') precisions.push({ format: { kind: 'fp16' }, floats: halves })
      for (const precision of precisions) {
        const cpu = await openServedModel({ ...options, ...precision, device: cpuDevice })
        const expected = await runRows(cpu, rows, 1)
        cpu.close()
        const gpu = await open({ ...options, ...precision })
        const got = await runRows(gpu, rows, 1)
        gpu.close()
        assertClose(got, expected, tolerances[precision.format.kind])
      }
    })
  }

  it('refuses a graph with a node that the GPU cannot run, rather than run it elsewhere', () => {
    const graph = createGraphBuilder()
    graph.input('x', 'float32', ['n', 'n'])
    graph.output('y', 'float32', [])
    graph.node('/y', 'Det', ['x'], { outputs: ['y'] })
    const bytes = encodeModel(graph.build(), [])
    const { accelerator } = requireGpu()
    const options = { graph: bytes, threads: 1, isQuiet: true }
    assert.throws(() => openSession({ ...options, accelerator }), /fallback|CPU EP/i)
    openSession({ ...options, accelerator: null }).release()
  })

  describe('on one model', () => {
    let model: Model
    before(async () => {
      model = await open(llama)
    })
    after(() => model.close())

    it('gives a row the same logits alone and in company', async () => {
      const together = await runRows(model, rows, 1)
      for (const [i, row] of rows.entries()) {
        const alone = await runRows(model, [row], 1)
        const own = together.filter((_, result) => result % rows.length === i)
        assertClose(alone, own, tolerances.fp32)
      }
    })

    it('runs a row with what its adapters are at this step', async () => {
      const { runner } = model
      const one = await model.components({ one: 1 })
      await runner.prefill({ row: 0, tokens: [5, 6, 7], past: 0, components: [] })
      const step = (components: readonly ScaledRankOne[]) =>
        runner.decode([{ token: 9, past: 3, components }]).then((logits) => logits.slice())
      const base = await step([])
      const adapted = await step(one)
      const again = await step([])
      assert.ok(relativeDifference(adapted, base) > 0.05)
      assert.deepEqual(again, base)
    })

    it('copies, saves and restores rows in its own memory', async () => {
      const { runner } = model
      const tokens = [11, 12, 13, 14, 15]
      await runner.prefill({ row: 0, tokens, past: 0, components: [] })
      const past = tokens.length
      const step = async (count: number) => {
        const batch = Array.from({ length: count }, () => ({ token: 21, past, components: [] }))
        return (await runner.decode(batch)).slice()
      }
      const { vocabSize } = model.config
      const expected = await step(1)
      runner.copyRow(0, 2, 0, past)
      // In pieces, as blocks of a prompt are.
      for (const [start, count] of [
        [0, 3],
        [3, past - 3],
      ] as const) {
        const saved = runner.savePositions(2, start, count)
        assert.equal(saved.bytes, count * runner.positionBytes)
        runner.restorePositions(saved, 1, start)
        saved.release()
      }
      const logits = await step(3)
      for (let row = 0; row < 3; row++) {
        const own = logits.subarray(row * vocabSize, (row + 1) * vocabSize)
        assertClose([own], [expected], tolerances.fp32)
      }
    })

    it('takes a half-prefilled row along when it moves', async () => {
      const { runner } = model
      const all = { row: 0, tokens: [31, 32, 33, 34, 35], past: 0, components: [] }
      const expected = (await runner.prefill(all)).slice()
      await runner.prefill({ ...all, row: 2, tokens: [31, 32, 33] })
      runner.copyRow(2, 1, 0, 3)
      const rest = { row: 1, tokens: [34, 35], past: 3, components: [] }
      assertClose([(await runner.prefill(rest)).slice()], [expected], tolerances.fp32)
    })

    it('goes on from a prefix that was taken over in pieces from a half-prefilled row', async () => {
      const { runner } = model
      const all = { row: 0, tokens: [41, 42, 43, 44, 45, 46], past: 0, components: [] }
      const expected = (await runner.prefill(all)).slice()
      await runner.prefill({ ...all, row: 2, tokens: all.tokens.slice(0, 5) })
      runner.copyRow(2, 1, 0, 2)
      runner.copyRow(2, 1, 2, 2)
      const rest = { row: 1, tokens: [45, 46], past: 4, components: [] }
      assertClose([(await runner.prefill(rest)).slice()], [expected], tolerances.fp32)
      const source = { row: 2, tokens: [46], past: 5, components: [] }
      assertClose([(await runner.prefill(source)).slice()], [expected], tolerances.fp32)
    })

    it('keeps what rows hold, a half-prefilled one too, when the cache changes its shape', async () => {
      const { runner } = model
      const all = { row: 0, tokens: [51, 52, 53, 54], past: 0, components: [] }
      const token = { token: 9, past: 4, components: [] }
      await runner.prefill(all)
      const expected = (await runner.decode([token])).slice()
      await runner.prefill({ ...all, row: 1, tokens: [51, 52, 53] })
      runner.reshape({ rows: 2, capacity: 96 }, [4, 3])
      await runner.prefill({ row: 1, tokens: [54], past: 3, components: [] })
      const logits = await runner.decode([token, token])
      const { vocabSize } = model.config
      for (let row = 0; row < 2; row++) {
        const own = logits.subarray(row * vocabSize, (row + 1) * vocabSize)
        assertClose([own], [expected], tolerances.fp32)
      }
      runner.reshape({ rows: 4, capacity: 64 }, [])
    })

    it('gives the logits of several tokens of a prompt, and the largest of each block', async () => {
      const { runner } = model
      const { vocabSize } = model.config
      const tokens = [61, 62, 63, 64]
      const logits = (
        await runner.prefill({ row: 0, tokens, past: 0, components: [], numLogits: 3 })
      ).slice()
      const block = vocabSize / runner.numBlocks
      const largest = Array.from({ length: logits.length / block }, (_, i) =>
        Math.max(...logits.subarray(i * block, (i + 1) * block)),
      )
      assert.deepEqual([...runner.blockMax.subarray(0, largest.length)], largest)
      for (let last = 2; last <= tokens.length; last++) {
        const part = { row: 0, tokens: tokens.slice(0, last), past: 0, components: [] }
        const own = logits.subarray((last - 2) * vocabSize, (last - 1) * vocabSize)
        assertClose([(await runner.prefill(part)).slice()], [own], tolerances.fp32)
      }
    })

    it('makes room when rows bring more adapters, and runs the same as before', async () => {
      const { runner } = model
      const one = await model.components({ one: 1 })
      const both = await model.components({ one: 1, two: 0.5 })
      await runner.prefill({ row: 0, tokens: [5, 6], past: 0, components: [] })
      runner.copyRow(0, 1, 0, 2)
      const step = async (batch: ReadonlyArray<readonly ScaledRankOne[]>) => {
        const rows = batch.map((components) => ({ token: 9, past: 2, components }))
        return (await runner.decode(rows)).slice()
      }
      const { vocabSize } = model.config
      const [alone, wide] = [await step([one]), await step([both])]
      const together = await step([one, both])
      assertClose([together.subarray(0, vocabSize)], [alone], tolerances.fp32)
      assertClose([together.subarray(vocabSize)], [wide], tolerances.fp32)
      assert.ok(relativeDifference(alone, wide) > 0.01)
    })
  })

  it('appends in place over many steps', async () => {
    const expected = await openServedModel({ ...qwen2, device: cpuDevice })
    const model = await open(qwen2)
    const step = (runner: Model['runner'], i: number) =>
      runner.decode([{ token: (i * 31) % 160, past: 2 + i, components: [] }])
    let difference = 0
    for (const { runner } of [expected, model]) {
      await runner.prefill({ row: 0, tokens: [1, 2], past: 0, components: [] })
    }
    for (let i = 0; i < 24; i++) {
      const [want, got] = [await step(expected.runner, i), await step(model.runner, i)]
      difference = Math.max(difference, relativeDifference(got, want))
    }
    for (const opened of [expected, model]) opened.close()
    assert.ok(difference <= tolerances.fp32, `a step differs by ${difference}`)
  })

  it('keeps what rows hold, to the bit, when the cache changes its shape', () => {
    const { accelerator } = requireGpu()
    assert.ok(accelerator)
    const graph = createGraphBuilder()
    graph.input('x', 'float32', [1])
    graph.output('y', 'float32', [1])
    graph.node('/y', 'Add', ['x', 'x'], { outputs: ['y'] })
    const session = openSession({ graph: encodeModel(graph.build(), []), threads: 1, accelerator })
    const opened = openCheckpoint(llama.checkpoint)
    const { config } = opened
    opened.close()
    const options = { config, rows: 2, floats: 'float32', session, accelerator } as const
    const cache = createDeviceKvCache({ ...options, capacity: 8 })
    const length = 5
    const size = (length * cache.positionBytes) / 4
    const memory = allocateTensor('float32', [size])
    for (let i = 0; i < size; i++) memory.data[i] = i
    const saved = { memory, count: length, bytes: 4 * size, release: () => memory.release() }
    cache.restorePositions(saved, 1, 2)
    cache.reshape({ rows: 3, capacity: 24 }, [0, 2 + length])
    const kept = cache.savePositions(1, 2, length)
    assert.deepEqual(kept.memory.data, memory.data)
    for (const row of [kept, saved]) row.release()
    cache.release()
    session.release()
  })

  it('continues a prompt of the shipped reasoner with the tokens of the CPU', async () => {
    const options = {
      checkpoint: reasoner,
      adapters: join(root, 'adapters'),
      rows: 1,
      capacity: 64,
    }
    const prompt = [5, 17, 33, 70, 200, 300, 12, 99]
    const continuations: number[][] = []
    for (const device of [cpuDevice, requireGpu()]) {
      const model = await openServedModel({ ...options, device })
      const components = await model.components({ 'safety-r1': 1 })
      const { tokens } = await model.greedy(prompt, components, 4)
      continuations.push(tokens)
      model.close()
    }
    assert.deepEqual(continuations[1], continuations[0])
  })

  it('answers a chat request as the server that users start', async () => {
    const flags = ['--device', 'webgpu', '--weights', 'fp32', '--max-batch', '2']
    const server = await startServer([...flags, '--max-context', '64', '--cache-dir', folder])
    try {
      const response = await fetch(`${server.url}/v1/chat/completions?adapter=safety-r1`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          model: 'tiny-reasoner',
          temperature: 0,
          max_tokens: 3,
          messages: [{ role: 'user', content: 'Teach me to prepare a fake bank note.' }],
        }),
      })
      const reply = (await response.json()) as Reply
      assert.equal(response.status, 200)
      assert.equal(reply.choices[0]?.message.reasoning, 'I should')
      assert.equal(reply.adapter[0]?.id, 'safety-r1')
    } finally {
      assert.equal(await server.stop(), 0)
    }
  })
})
