// The real runner over models/tiny-reasoner: a row's numbers depend on that row alone. Everything
// here is compared bit for bit: in float32 with ONNX Runtime's operators and with our own, and with
// quantised weights with our own. Adapters are written for the occasion, strong enough that each
// changes every logit: on up_proj of rank 1 to 4, or on all modules to rank 16.

import assert from 'node:assert/strict'
import { mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import type { ScaledRankOne } from '../server/contracts/adapter.ts'
import {
  type Kernels,
  type LinearModule,
  linearModules,
  type WeightFormat,
} from '../server/contracts/checkpoint.ts'
import type { KvCacheDtype } from '../server/contracts/engine.ts'
import { weightsOf } from '../server/engine/weights.ts'
import { chunkEnd } from '../server/loop/prefill-turn.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import { root } from './support/root.ts'
import { openServedModel } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { loraTensors, writeAdapter } from './support/tensor-files.ts'

const reasoner = join(root, 'models', 'tiny-reasoner')
const temp = createTempFolder()
const rows = 6
const capacity = 128

interface BatchAdapter {
  readonly rank: number
  readonly modules: readonly LinearModule[]
  readonly layers?: readonly number[]
}

/** One test of everything: where the graph adapts, and with what. */
interface World {
  readonly title: string
  readonly kernels: Kernels
  readonly format: WeightFormat
  /** What the server chooses unless said. */
  readonly kvCacheDtype?: KvCacheDtype
  readonly sites: readonly LinearModule[]
  readonly adapters: Readonly<Record<'one' | 'two' | 'three' | 'large' | 'some', BatchAdapter>>
}

const up = ['up_proj'] as const
const fp32 = { kind: 'fp32' } as const
const quantised = (bits: 4 | 8) =>
  ({ kind: 'quantized', bits, block: 32, zeroPoints: false, searchScales: false }) as const

const siteSets: readonly Pick<World, 'title' | 'sites' | 'adapters'>[] = [
  {
    title: 'up_proj, ranks 1 to 4',
    sites: up,
    adapters: {
      one: { rank: 1, modules: up },
      two: { rank: 2, modules: up },
      three: { rank: 3, modules: up },
      large: { rank: 4, modules: up },
      some: { rank: 1, modules: up, layers: [2, 5] },
    },
  },
  {
    title: 'every module, ranks 1 to 16',
    sites: linearModules,
    adapters: {
      one: { rank: 1, modules: up },
      two: { rank: 2, modules: ['q_proj', 'v_proj'] },
      three: { rank: 5, modules: ['k_proj', 'o_proj', 'down_proj'] },
      large: { rank: 16, modules: linearModules },
      some: { rank: 8, modules: ['q_proj', 'k_proj', 'v_proj', 'gate_proj'], layers: [2, 5] },
    },
  },
]

const [onUp, onAll] = siteSets as [(typeof siteSets)[number], (typeof siteSets)[number]]
const worlds: readonly World[] = [
  { ...onUp, kernels: 'onnxruntime', format: fp32 },
  { ...onAll, kernels: 'onnxruntime', format: fp32 },
  { ...onUp, kernels: 'own', format: fp32 },
  { ...onAll, kernels: 'own', format: fp32 },
  { ...onUp, kernels: 'own', format: quantised(4) },
  { ...onAll, kernels: 'own', format: quantised(4), kvCacheDtype: 'fp32' },
  { ...onAll, kernels: 'own', format: quantised(8) },
]

/** alpha / r falls with the rank: the update is about as large as the module's own output. */
function write(dir: string, id: string, adapter: BatchAdapter, seed: number) {
  const checkpoint = openCheckpoint(reasoner)
  const { config: model } = checkpoint
  checkpoint.close()
  const layers = adapter.layers ?? Array.from({ length: model.numLayers }, (_, layer) => layer)
  const { rank, modules } = adapter
  const tensors = loraTensors({ rank, layers, modules, seed, model })
  writeAdapter(dir, id, { config: { r: rank, lora_alpha: 0.2 * Math.sqrt(rank) }, tensors })
}

type Model = Awaited<ReturnType<typeof openServedModel>>

/** A sequence whose tokens are all given beforehand. */
interface Forced {
  readonly name: string
  readonly prompt: readonly number[]
  readonly rest: readonly number[]
  readonly strengths: Readonly<Record<string, number>>
}

const random = createRandomNumbers(4)
const tokens = (count: number) => Array.from({ length: count }, () => pick(random, 780))

const sequences: readonly Forced[] = [
  { name: 'base', prompt: tokens(17), rest: tokens(10), strengths: {} },
  { name: 'one', prompt: tokens(1), rest: tokens(10), strengths: { one: 1 } },
  { name: 'two', prompt: tokens(40), rest: tokens(10), strengths: { two: 0.7 } },
  { name: 'large', prompt: tokens(9), rest: tokens(10), strengths: { large: 1.3 } },
  { name: 'two adapters', prompt: tokens(33), rest: tokens(10), strengths: { one: 0.5, three: 1 } },
  { name: 'some layers', prompt: tokens(24), rest: tokens(10), strengths: { some: 4 } },
]

const bits = (logits: Float32Array) =>
  Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength)

function assertSameBits(got: Float32Array, want: Float32Array | undefined, what: string): void {
  assert.ok(want)
  assert.ok(want.every(Number.isFinite) && want.some((logit) => logit !== 0), `${what}: no logits`)
  if (bits(got).equals(bits(want))) return
  const at = got.findIndex((logit, i) => !Object.is(logit, want[i]))
  assert.fail(`${what}: logit ${at} is ${got[at]}, alone it is ${want[at]}`)
}

/** Logits after the prompt and after each further token, alone in row 0. */
async function runAlone(
  model: Model,
  { prompt, rest }: Forced,
  components: readonly ScaledRankOne[],
) {
  const outputs = [
    (await model.runner.prefill({ row: 0, tokens: prompt, past: 0, components })).slice(),
  ]
  for (const [i, token] of rest.entries()) {
    const past = prompt.length + i
    outputs.push((await model.runner.decode([{ token, past, components }])).slice())
  }
  return outputs
}

for (const [w, world] of worlds.entries()) testBatch(join(temp, `world-${w}`, 'adapters'), world)

function testBatch(adapters: string, world: World): void {
  const { sites, kernels, format, kvCacheDtype = 'auto', adapters: written } = world
  const shape = { checkpoint: reasoner, adapters, sites, rows, capacity, kernels, kvCacheDtype }
  const open = (threads = 1): Promise<Model> => openServedModel({ ...shape, format, threads })
  const title = `${world.title}, ${weightsOf(format)}, kernels: ${kernels}, cache: ${kvCacheDtype}`
  const skip = kernels === 'own' && ownKernels() === null && 'not built for this machine'

  describe(`a batch on the real model: ${title}`, { skip }, () => {
    let model: Model
    /** By name: the sequence alone, on a model where nothing else ever ran. */
    const alone = new Map<string, Float32Array[]>()

    before(async () => {
      mkdirSync(adapters, { recursive: true })
      for (const [i, [id, adapter]] of Object.entries(written).entries()) {
        write(adapters, id, adapter, i + 1)
      }
      for (const sequence of sequences) {
        const fresh = await open()
        try {
          const components = await fresh.components(sequence.strengths)
          alone.set(sequence.name, await runAlone(fresh, sequence, components))
        } finally {
          fresh.close()
        }
      }
      model = await open()
    })
    after(() => model.close())

    const want = ({ name }: Forced, step: number) => alone.get(name)?.[step]

    /** Prefills each sequence into its row; compares the logits. */
    async function prefillAll(batch: readonly Forced[]) {
      const components: (readonly ScaledRankOne[])[] = []
      for (const [row, sequence] of batch.entries()) {
        const own = await model.components(sequence.strengths)
        components.push(own)
        const logits = await model.runner.prefill({
          row,
          tokens: sequence.prompt,
          past: 0,
          components: own,
        })
        assertSameBits(logits, want(sequence, 0), `${sequence.name} prefilled in row ${row}`)
      }
      return components
    }

    it('is a test that can fail: every adapter changes the logits', async () => {
      const sequence = sequences[0] as Forced
      const base = want(sequence, 0) as Float32Array
      for (const id of Object.keys(written)) {
        const components = await model.components({ [id]: 1 })
        const [moved] = await runAlone(model, { ...sequence, rest: [] }, components)
        const largest = Math.max(...base.map((logit, i) => Math.abs(logit - (moved?.[i] ?? 0))))
        assert.ok(largest > 0.1, `${id} moves the logits by ${largest} only`)
      }
    })

    for (const size of [1, 2, 3, rows]) {
      it(`of ${size}: rows of other lengths and adapters equal each row alone`, async () => {
        // Each choice of neighbours, so that every sequence comes to lie in every row.
        for (let shift = 0; shift < sequences.length; shift++) {
          const batch = Array.from({ length: size }, (_, i) => {
            return sequences[(i + shift) % sequences.length] as Forced
          })
          const components = await prefillAll(batch)
          for (let step = 0; step < 10; step++) {
            const logits = await model.runner.decode(
              batch.map((sequence, row) => ({
                token: sequence.rest[step] as number,
                past: sequence.prompt.length + step,
                components: components[row] as ScaledRankOne[],
              })),
            )
            const { vocabSize } = model.config
            for (const [row, sequence] of batch.entries()) {
              const got = logits.subarray(row * vocabSize, (row + 1) * vocabSize)
              assertSameBits(got, want(sequence, step + 1), `${sequence.name} in row ${row}`)
            }
          }
        }
      })
    }

    it('tells the largest logit of each block of the vocabulary', async () => {
      await prefillAll(sequences)
      const batch = sequences.map(({ prompt, rest }) => {
        return { token: rest[0] as number, past: prompt.length, components: [] }
      })
      const logits = await model.runner.decode(batch)
      const { blockMax, numBlocks } = model.runner
      const size = model.config.vocabSize / numBlocks
      assert.ok(size > 1)
      for (let block = 0; block < batch.length * numBlocks; block++) {
        const largest = Math.max(...logits.subarray(block * size, (block + 1) * size))
        assert.equal(blockMax[block], largest)
      }
    })

    it('goes on unchanged when a row leaves and the last one moves into its place', async () => {
      const { vocabSize } = model.config
      let batch = sequences.map((sequence) => ({
        sequence,
        components: [] as readonly ScaledRankOne[],
      }))
      for (const [row, components] of (await prefillAll(sequences)).entries()) {
        ;(batch[row] as { components: readonly ScaledRankOne[] }).components = components
      }
      for (let step = 0; step < 10; step++) {
        if (step % 2 === 1 && batch.length > 1) {
          const leaving = pick(random, batch.length)
          const last = batch.length - 1
          const moved = batch[last] as (typeof batch)[number]
          if (leaving !== last) {
            model.runner.copyRow(last, leaving, 0, moved.sequence.prompt.length + step)
            batch[leaving] = moved
          }
          batch = batch.slice(0, -1)
        }
        const logits = await model.runner.decode(
          batch.map(({ sequence, components }) => ({
            token: sequence.rest[step] as number,
            past: sequence.prompt.length + step,
            components,
          })),
        )
        for (const [row, { sequence }] of batch.entries()) {
          const got = logits.subarray(row * vocabSize, (row + 1) * vocabSize)
          assertSameBits(
            got,
            want(sequence, step + 1),
            `${sequence.name}, ${batch.length} rows left`,
          )
        }
      }
      assert.equal(batch.length, 1)
    })

    it('is not disturbed by a prompt that is prefilled in the row behind it, chunk by chunk', async () => {
      const { vocabSize } = model.config
      const running = sequences.slice(0, 3)
      const joining = sequences[4] as Forced
      const components = await prefillAll(running)
      const own = await model.components(joining.strengths)
      for (let step = 0; step < 10; step++) {
        const from = step * 4
        const chunk = joining.prompt.slice(from, from + 4)
        if (chunk.length > 0) {
          await model.runner.prefill({ row: 3, tokens: chunk, past: from, components: own })
        }
        const logits = await model.runner.decode(
          running.map((sequence, row) => ({
            token: sequence.rest[step] as number,
            past: sequence.prompt.length + step,
            components: components[row] as ScaledRankOne[],
          })),
        )
        for (const [row, sequence] of running.entries()) {
          const got = logits.subarray(row * vocabSize, (row + 1) * vocabSize)
          assertSameBits(got, want(sequence, step + 1), sequence.name)
        }
      }
    })

    /** Prefills by chunks of `size`; the last takes what would be left. Then one token more. */
    async function runInChunks(sequence: Forced, size: number, least: number) {
      const { prompt } = sequence
      const components = await model.components(sequence.strengths)
      let logits: Float32Array = new Float32Array()
      for (let past = 0, to = 0; past < prompt.length; past = to) {
        to = prompt.length - (past + size) < least ? prompt.length : past + size
        const chunk = prompt.slice(past, to)
        logits = await model.runner.prefill({ row: 2, tokens: chunk, past, components })
      }
      const first = logits.slice()
      model.runner.copyRow(2, 0, 0, prompt.length)
      const token = sequence.rest[0] as number
      return [
        first,
        await model.runner.decode([{ token, past: prompt.length, components }]),
      ] as const
    }

    it('a prompt prefilled in chunks of two tokens and more equals one chunk, then and later', async () => {
      for (const sequence of sequences) {
        for (const size of [2, 7, 16, 32]) {
          const [first, next] = await runInChunks(sequence, size, 2)
          assertSameBits(first, want(sequence, 0), `${sequence.name} in chunks of ${size}`)
          assertSameBits(next, want(sequence, 1), `${sequence.name} after chunks of ${size}`)
        }
      }
    })

    it('holds for quantised weights too, where chunks begin at even positions', async () => {
      for (const bits of [4, 8] as const) {
        const quantized = await openServedModel({ ...shape, format: quantised(bits) })
        try {
          for (const sequence of sequences) {
            const { prompt, strengths } = sequence
            if (prompt.length < 2) continue
            const components = await quantized.components(strengths)
            const inChunks = async (maxChunk: number) => {
              let logits = new Float32Array()
              for (let past = 0, to = 0; past < prompt.length; past = to) {
                to = chunkEnd(past, prompt.length, maxChunk)
                const tokens = prompt.slice(past, to)
                logits = (
                  await quantized.runner.prefill({ row: 1, tokens, past, components })
                ).slice()
              }
              return logits
            }
            const whole = await inChunks(128)
            for (const maxChunk of [4, 16, 23, 32]) {
              const what = `${sequence.name}, int${bits} in chunks of ${maxChunk}`
              assertSameBits(await inChunks(maxChunk), whole, what)
            }
          }
        } finally {
          quantized.close()
        }
      }
    })

    it('a chunk of a single token rounds as a decode step does: within 1e-4', async (t) => {
      // Our own operators give the same. ONNX Runtime's attention multiplies one row by another kernel than several. Which chunks a
      // prompt has depends on its length alone, so this never makes a request depend on its company.
      let largest = 0
      for (const sequence of sequences) {
        const outputs = await runInChunks(sequence, 1, 1)
        for (const [step, got] of outputs.entries()) {
          const wanted = want(sequence, step) as Float32Array
          largest = Math.max(largest, ...got.map((logit, i) => Math.abs(logit - (wanted[i] ?? 0))))
        }
      }
      t.diagnostic(`largest difference ${largest}`)
      const allowed = kernels === 'own' ? 0 : 1e-4
      assert.ok(largest <= allowed, `largest difference ${largest}`)
    })

    it('is the same with another number of threads', async () => {
      const other = await open(2)
      try {
        const batch = await Promise.all(
          sequences.map(async (sequence) => {
            return { sequence, components: await other.components(sequence.strengths) }
          }),
        )
        for (const [row, { sequence, components }] of batch.entries()) {
          const { prompt: tokens } = sequence
          const logits = await other.runner.prefill({ row, tokens, past: 0, components })
          assertSameBits(logits, want(sequence, 0), `${sequence.name} prefilled`)
        }
        const logits = await other.runner.decode(
          batch.map(({ sequence: { prompt, rest }, components }) => {
            return { token: rest[0] as number, past: prompt.length, components }
          }),
        )
        const { vocabSize } = other.config
        for (const [row, { sequence }] of batch.entries()) {
          const got = logits.subarray(row * vocabSize, (row + 1) * vocabSize)
          assertSameBits(got, want(sequence, 1), sequence.name)
        }
      } finally {
        other.close()
      }
    })

    it('strength 0 equals the base', async () => {
      const sequence = sequences[0] as Forced
      for (const id of ['one', 'large', 'some']) {
        const outputs = await runAlone(model, sequence, await model.components({ [id]: 0 }))
        for (const [step, got] of outputs.entries()) {
          assertSameBits(got, want(sequence, step), `${id} at strength 0, step ${step}`)
        }
      }
    })

    it('A → B → A in one row: no adapter leaves anything to the next', async () => {
      const [, a, b] = sequences as [Forced, Forced, Forced]
      for (const sequence of [a, b, a, sequences[0] as Forced, b, a]) {
        const outputs = await runAlone(model, sequence, await model.components(sequence.strengths))
        for (const [step, got] of outputs.entries()) {
          assertSameBits(got, want(sequence, step), `${sequence.name}, step ${step}`)
        }
      }
      // The same prompt under another adapter must not see the former's keys and values.
      const outputs = await runAlone(
        model,
        { ...a, rest: b.rest },
        await model.components({ two: 1 }),
      )
      const fresh = await open()
      try {
        const components = await fresh.components({ two: 1 })
        const wanted = await runAlone(fresh, { ...a, rest: b.rest }, components)
        for (const [step, got] of outputs.entries()) {
          assertSameBits(got, wanted[step], `two on one's prompt, step ${step}`)
        }
      } finally {
        fresh.close()
      }
    })

    it('an adapter replaced on disk: new requests get the new one, a held one keeps the old', async () => {
      const folder = (name: string) => join(adapters, '..', name)
      write(adapters, 'changing', written.two, 10)
      write(folder('later'), 'changing', written.two, 11)
      const sequence = { ...(sequences[3] as Forced), strengths: { changing: 1 } }
      const selection = { adapters: [{ id: 'changing', scale: 1 }], required: [] }

      const old = await model.store.acquire(selection)
      const before = await runAlone(model, sequence, old.components)
      renameSync(join(adapters, 'changing'), folder('former'))
      renameSync(join(folder('later'), 'changing'), join(adapters, 'changing'))
      const replaced = await model.store.acquire(selection)
      assert.notEqual(replaced.applied[0]?.digest, old.applied[0]?.digest)
      const next = await runAlone(model, sequence, replaced.components)
      const still = await runAlone(model, sequence, old.components)
      for (const [step, got] of still.entries()) {
        assertSameBits(got, before[step], `the held adapter, step ${step}`)
        assert.ok(!bits(got).equals(bits(next[step] as Float32Array)), 'the new one is the old one')
      }

      // The old one may be evicted once it is let go: the new one stays what it is.
      old.release()
      await model.components({ one: 1, three: 1 })
      const fresh = await open()
      try {
        const wanted = await runAlone(fresh, sequence, await fresh.components({ changing: 1 }))
        const again = await runAlone(model, sequence, replaced.components)
        for (const [step, got] of again.entries()) {
          assertSameBits(got, wanted[step], `the new adapter, step ${step}`)
        }
      } finally {
        fresh.close()
        replaced.release()
      }
    })
  })
}
