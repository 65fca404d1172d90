// Verdict steps and the probe change no bit of what is generated: a stream of eight rows with adapters
// of their own gives the same logits whatever is judged in between. Compared bit for bit, in every
// weight format of the CPU, with both kinds of kernels, and on a GPU where there is one.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import type { ScaledRankOne } from '../server/contracts/adapter.ts'
import {
  type LinearModule,
  linearModules,
  type ProbePlace,
  type WeightFormat,
} from '../server/contracts/checkpoint.ts'
import { weightsOf } from '../server/engine/weights.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { lacksGpu, requireGpu } from './support/gpu.ts'
import { writeRandomGguf } from './support/random-gguf.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import { root } from './support/root.ts'
import { openServedModel, type ServedModelOptions } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { loraTensors, pseudoRandom, writeAdapter } from './support/tensor-files.ts'

const reasoner = join(root, 'models', 'tiny-reasoner')
const temp = createTempFolder()
const capacity = 64
const guardToken = 5
/** What a guard changes; of rank 16. */
const guardModules = ['q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const

interface World {
  readonly title: string
  readonly checkpoint: () => string
  readonly options: Partial<ServedModelOptions>
  readonly skip: string | false
  readonly extent?: Extent
}

/** How much is tried. */
interface Extent {
  readonly rows: number
  readonly steps: number
  /** Steps between two verdicts, of each stream that is judged. */
  readonly every: readonly number[]
  /** Tokens by which each prompt is longer than the one before. */
  readonly stagger: number
  /** Also other caches, sites and probes, each of which is a model of its own. */
  readonly hasOtherModels: boolean
}

const whole: Extent = { rows: 8, steps: 16, every: [1, 4, 8], stagger: 3, hasOtherModels: true }
/** A software GPU takes half a second a step, and seconds for each new shape of a tensor. */
const short: Extent = { rows: 3, steps: 5, every: [2], stagger: 0, hasOtherModels: false }

const fp32 = { kind: 'fp32' } as const
const quantised = (bits: 4 | 8) =>
  ({ kind: 'quantized', bits, block: 32, zeroPoints: false, searchScales: false }) as const
const lacksOwn = ownKernels() === null && 'own kernels are not built for this machine'
const ofReasoner = { checkpoint: () => reasoner }

function own(format: WeightFormat, options: Partial<ServedModelOptions> = {}): World {
  return {
    ...ofReasoner,
    title: `${weightsOf(format)}, own kernels, cache: ${options.kvCacheDtype ?? 'auto'}`,
    options: { format, kernels: 'own', ...options },
    skip: lacksOwn,
  }
}

const worlds: readonly World[] = [
  own(fp32),
  own(fp32, { kvCacheDtype: 'fp16' }),
  own(quantised(8)),
  own(quantised(4)),
  { ...own({ kind: 'stored' }), checkpoint: writeGguf },
  {
    ...ofReasoner,
    title: "fp32, ONNX Runtime's kernels",
    options: { format: fp32, kernels: 'onnxruntime' },
    skip: false,
  },
  {
    checkpoint: writeSmall,
    title: 'fp32, on a GPU',
    options: { format: fp32, kernels: 'onnxruntime' },
    skip: lacksGpu,
    extent: short,
  },
]

/** A GPU in software is slow. */
function writeSmall(): string {
  const shape = { family: 'llama', isTied: true, hidden: 64, intermediate: 96 } as const
  return writeRandomGguf(join(temp, 'small.gguf'), { ...shape, typeOf: () => 'Q8_0' })
}

function writeGguf(): string {
  const shape = { family: 'llama', isTied: true, hidden: 256, intermediate: 256 } as const
  return writeRandomGguf(join(temp, 'model.gguf'), { ...shape, typeOf: () => 'Q4_K' })
}

type Model = Awaited<ReturnType<typeof openServedModel>>

interface Row {
  readonly prompt: readonly number[]
  readonly rest: readonly number[]
  readonly components: readonly ScaledRankOne[]
}

const strengths: ReadonlyArray<Readonly<Record<string, number>>> = [
  {},
  { one: 1 },
  { two: 0.7 },
  { one: 0.5, two: 1 },
  { one: -1 },
  {},
  { two: 2 },
  { one: 0.25 },
]

function writeAdapters(adapters: string, checkpoint: string): void {
  mkdirSync(adapters, { recursive: true })
  const opened = openCheckpoint(checkpoint)
  const { config: model } = opened
  opened.close()
  const layers = Array.from({ length: model.numLayers }, (_, layer) => layer)
  function write(id: string, rank: number, modules: readonly LinearModule[], seed: number) {
    const tensors = loraTensors({ rank, layers, modules, seed, model })
    writeAdapter(adapters, id, { config: { r: rank, lora_alpha: 0.2 * Math.sqrt(rank) }, tensors })
  }
  write('one', 1, ['up_proj'], 1)
  write('two', 2, ['up_proj', 'v_proj'], 2)
  write('guard', 16, guardModules, 3)
}

const bitsOf = (logits: Float32Array) =>
  Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength)

function isSame(got: Float32Array, want: Float32Array | undefined): boolean {
  assert.ok(want)
  assert.ok(want.every(Number.isFinite) && want.some((logit) => logit !== 0), 'no logits')
  return bitsOf(got).equals(bitsOf(want))
}

async function prefillAll(model: Model, { rows, steps, stagger }: Extent): Promise<Row[]> {
  const random = createRandomNumbers(11)
  const draw = (count: number) => Array.from({ length: count }, () => pick(random, 150))
  const batch: Row[] = []
  for (const [row, own] of strengths.slice(0, rows).entries()) {
    const components = await model.components(own)
    const prompt = draw(4 + stagger * row)
    await model.runner.prefill({ row, tokens: prompt, past: 0, components })
    batch.push({ prompt, rest: draw(steps), components })
  }
  return batch
}

/** What happens after each step, once the row has `length` positions. */
type Between = (model: Model, step: number, lengths: readonly number[]) => Promise<void>

/** Logits of all rows at each step, and what a probe told. */
async function runStream(model: Model, extent: Extent, between: Between = async () => {}) {
  const batch = await prefillAll(model, extent)
  const logits: Float32Array[] = []
  const told: (Float32Array | undefined)[] = []
  for (let step = 0; step < extent.steps; step++) {
    const got = await model.runner.decode(
      batch.map(({ prompt, rest, components }) => {
        return { token: rest[step]!, past: prompt.length + step, components }
      }),
    )
    logits.push(got.slice())
    told.push(model.runner.probe?.slice())
    await between(
      model,
      step,
      batch.map(({ prompt }) => prompt.length + step + 1),
    )
  }
  return { logits, told }
}

function judgeAt(model: Model, guard: readonly ScaledRankOne[], positions: readonly number[]) {
  const batch = positions.map((past) => ({ token: guardToken, past }))
  return model.runner.verdict(batch, guard)
}

/** Two logits alone are those of `whole`, after other tokens have left theirs in the same memory. */
async function assertTwoLogits(
  { runner, config: { vocabSize } }: Model,
  guard: readonly ScaledRankOne[],
  positions: readonly number[],
  whole: Float32Array,
): Promise<void> {
  const wanted = [3, vocabSize - 1] as const
  const batchOf = (token: number) => positions.map((past) => ({ token, past }))
  await runner.verdict(batchOf(guardToken + 1), guard)
  const two = await runner.verdict(batchOf(guardToken), guard, wanted)
  for (const row of positions.keys()) {
    for (const token of wanted) {
      assert.equal(two[row * vocabSize + token], whole[row * vocabSize + token])
    }
  }
}

for (const [w, world] of worlds.entries()) testWorld(w, world)

function testWorld(w: number, world: World): void {
  const { title, checkpoint, options, skip, extent = whole } = world
  const { rows } = extent
  describe(`verdict steps: ${title}`, { skip }, () => {
    const adapters = join(temp, `world-${w}`, 'adapters')
    let shape: ServedModelOptions
    let model: Model
    let guard: readonly ScaledRankOne[]
    /** Of a model that never judged. */
    let want: readonly Float32Array[]

    before(async () => {
      const path = checkpoint()
      writeAdapters(adapters, path)
      const device = title.endsWith('GPU') ? { device: requireGpu() } : {}
      const cacheDir = join(temp, `cache-${w}`)
      shape = { checkpoint: path, adapters, rows, capacity, cacheDir, sites: linearModules }
      shape = { ...shape, ...options, ...device }
      const never = await openServedModel(shape)
      want = (await runStream(never, extent)).logits
      never.close()
      model = await openServedModel(shape)
      guard = await model.components({ guard: 1 })
    })
    after(() => model.close())

    function assertUnchanged(got: readonly Float32Array[]): void {
      const changed = got.findIndex((logits, step) => !isSame(logits, want[step]))
      assert.equal(changed, -1, `step ${changed} differs`)
    }

    for (const every of extent.every) {
      it(`at the next free position, every ${every} steps, of some rows or all`, async () => {
        const { logits } = await runStream(model, extent, async (_, step, lengths) => {
          if (step % every !== every - 1) return
          await judgeAt(model, guard, lengths.slice(0, 1 + (step % rows)))
          await judgeAt(model, guard, lengths)
        })
        assertUnchanged(logits)
      })

      it(`at a position that is taken, every ${every} steps, saved and restored`, async () => {
        const { logits } = await runStream(model, extent, async ({ runner }, step, lengths) => {
          if (step % every !== every - 1) return
          const positions = lengths.map((length, row) => length - (row % 4))
          const saved = positions.map((position, row) => {
            return position === lengths[row] ? null : runner.savePositions(row, position, 1)
          })
          await judgeAt(model, guard, positions)
          for (const [row, block] of saved.entries()) {
            if (block !== null) runner.restorePositions(block, row, positions[row]!)
            block?.release()
          }
        })
        assertUnchanged(logits)
      })
    }

    it('is a test that can fail: one position too early changes the stream', async () => {
      const { logits } = await runStream(model, extent, async (_, step, lengths) => {
        if (step !== 3) return
        await judgeAt(
          model,
          guard,
          lengths.map((length) => length - 1),
        )
      })
      assert.ok(isSame(logits[3]!, want[3]))
      assert.ok(!isSame(logits[4]!, want[4]))
    })

    it('says what a decode step with the guard says, whatever stands beside the row', async () => {
      const batch = await prefillAll(model, extent)
      const { vocabSize } = model.config
      const positions = batch.map(({ prompt }) => prompt.length)
      const together = (await judgeAt(model, guard, positions)).slice()
      const first = (await judgeAt(model, guard, positions.slice(0, 1))).slice()
      const decoded = await model.runner.decode(
        positions.map((past) => ({ token: guardToken, past, components: guard })),
      )
      assert.ok(isSame(together, decoded))
      assert.ok(isSame(first, together.slice(0, vocabSize)))
      await assertTwoLogits(model, guard, positions, together)
    })

    if (!extent.hasOtherModels) return

    it('across a cache that changes its shape', async () => {
      let isLarge = false
      const { logits } = await runStream(model, extent, async ({ runner }, _, lengths) => {
        await judgeAt(model, guard, lengths)
        isLarge = !isLarge
        runner.reshape({ rows, capacity: isLarge ? capacity + 16 : capacity }, lengths)
      })
      assertUnchanged(logits)
    })

    it('across a cache that moves layer by layer between steps, each judged', async () => {
      const answers: boolean[] = []
      let isLarge = true
      const { logits } = await runStream(model, extent, async ({ runner }, _, lengths) => {
        await judgeAt(model, guard, lengths)
        const next = { rows, capacity: isLarge ? capacity + 16 : capacity }
        const isDone = runner.reshapePart?.(next, lengths, 1) ?? runner.reshape(next, lengths)
        answers.push(isDone !== false)
        if (isDone !== false) isLarge = !isLarge
      })
      assertUnchanged(logits)
      model.runner.reshape({ rows, capacity }, [])
      assert.equal(answers.includes(false), model.runner.reshapePart !== undefined)
    })

    it("the sites of a guard's modules change no bit where no guard is", async () => {
      const sites = ['v_proj', 'up_proj'] as const
      const without = await openServedModel({ ...shape, sites })
      try {
        assertUnchanged((await runStream(without, extent)).logits)
      } finally {
        without.close()
      }
    })

    it('in a graph of their own say the same, change no bit and widen no other step', async () => {
      const probe = {
        place: { layer: 1, site: 'residual' },
        direction: pseudoRandom(model.config.hiddenSize, 3),
      } as const
      const sites = ['v_proj', 'up_proj'] as const
      const aside = await openServedModel({ ...shape, sites, verdictSites: linearModules, probe })
      try {
        const { logits } = await runStream(aside, extent, async (_, step, lengths) => {
          const positions = lengths.slice(0, 1 + (step % rows))
          await judgeAt(aside, guard, positions)
        })
        assertUnchanged(logits)
        const positions = (await prefillAll(model, extent)).map(({ prompt }) => prompt.length)
        await prefillAll(aside, extent)
        const together = (await judgeAt(model, guard, positions)).slice()
        assert.ok(isSame(await judgeAt(aside, guard, positions), together))
        await assertTwoLogits(aside, guard, positions, together)
      } finally {
        aside.close()
      }
    })

    const places: readonly ProbePlace[] = [
      { layer: 0, site: 'residual' },
      { layer: 1, site: 'mlp_output' },
    ]
    for (const place of places) {
      it(`a probe of ${place.site} changes no bit and depends on no other row`, async () => {
        const direction = pseudoRandom(model.config.hiddenSize, 9)
        const probed = await openServedModel({ ...shape, probe: { place, direction } })
        try {
          const { logits, told } = await runStream(probed, extent, async (_, __, lengths) => {
            await judgeAt(probed, guard, lengths)
          })
          assertUnchanged(logits)
          const batch = await prefillAll(probed, extent)
          for (const count of [1, 3, rows]) {
            await probed.runner.decode(
              batch.slice(0, count).map(({ prompt, rest, components }) => {
                return { token: rest[0]!, past: prompt.length, components }
              }),
            )
            assert.deepEqual(probed.runner.probe, told[0]!.slice(0, count))
          }
          assert.equal(new Set(told[0]).size, rows)
        } finally {
          probed.close()
        }
      })
    }
  })
}
