// The numeric claims, against transformers + PEFT in float32, generated when the test runs: logits
// of the base, of each adapter (any modules, ranks, patterns, layers), of half strength and of several
// adapters together, over prefill and decode, in one batch that mixes them all; and greedy tokens.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { readFolderEntries } from '../server/adapters/folder-index.ts'
import { sitesOfFolders } from '../server/adapters/sites.ts'
import { openSafetensors } from '../server/checkpoint/safetensors.ts'
import type { ScaledRankOne } from '../server/contracts/adapter.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { logprobsOf } from '../server/sampling/logprobs.ts'
import { lacksPython, python } from './support/python.ts'
import { root } from './support/root.ts'
import { openServedModel } from './support/served-model.ts'

/** float32 sums in another order; logits here are of the order of 10. */
const tolerance = 1e-3

interface Case {
  readonly checkpoint: string
  readonly adapters: Record<string, string>
  readonly variants: Record<string, Record<string, number>>
  readonly prompts: number[][]
  readonly greedyPrompts: number[][]
  readonly greedy: Record<string, number[][]>
}

const caseNames = [
  'qwen2-tied-f32',
  'qwen2-untied-bf16-sharded',
  'qwen2-untied-f16',
  'llama-untied-f16-llama3',
  'llama-tied-f32-bias-sharded',
  'llama-headdim-bf16',
  'qwen2-yarn',
  'llama-yarn-older',
  'llama-yarn-attention-factor',
  'llama-linear',
  'qwen2-linear-older',
  'qwen2-mixed-adapters',
  'llama-mixed-adapters',
  'tiny-reasoner',
]

const cases = (['own', 'onnxruntime'] as const).flatMap((kernels) =>
  caseNames.map((name) => ({ name, kernels })),
)

function readCase(folder: string) {
  const spec: Case = JSON.parse(readFileSync(join(folder, 'case.json'), 'utf8'))
  const [adapter = ''] = Object.values(spec.adapters)
  const file = openSafetensors(join(folder, 'expected.safetensors'), { code: 'invalid_checkpoint' })
  const read = (tensor: string) => file.readFloat32(tensor)
  const expected = (variant: string, prompt: number) => read(`${variant}.${prompt}`)
  return { spec, expected, read, adapters: dirname(adapter), close: () => file.close() }
}

function largestDifference(x: Float32Array, y: Float32Array): number {
  assert.equal(x.length, y.length)
  let largest = 0
  for (const [i, value] of x.entries()) {
    const difference = Math.abs(value - (y[i] as number))
    if (!(difference <= largest)) largest = difference
  }
  return largest
}

/** As torch computes it, in double precision. */
function logSoftmax(logits: Float32Array, id: number): number {
  const top = logits.reduce((x, y) => Math.max(x, y))
  const mass = logits.reduce((sum, logit) => sum + Math.exp(logit - top), 0)
  return (logits[id] as number) - top - Math.log(mass)
}

describe('parity with transformers + PEFT', { skip: lacksPython }, () => {
  let fixtures = ''

  before(() => {
    fixtures = mkdtempSync(join(tmpdir(), 'dutyfree-parity-'))
    const adapters = ['terse-r1', 'safety-r1'].map((name) => join(root, 'adapters', name))
    const script = join(root, 'training', 'tests', 'parity_fixtures.py')
    const reasoner = join(root, 'models', 'tiny-reasoner')
    const args = ['--output', fixtures, '--reasoner', reasoner, '--adapters', ...adapters]
    execFileSync(python, [script, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  })
  after(() => rmSync(fixtures, { recursive: true, force: true }))

  it('covers every case that the fixtures hold', () => {
    assert.deepEqual(readdirSync(fixtures).sort(), [...caseNames].sort())
  })

  for (const name of caseNames.filter((name) => /yarn|linear/.test(name))) {
    it(`catches rope scaling left out: ${name}`, async () => {
      const { spec, expected, adapters, close } = readCase(join(fixtures, name))
      const checkpoint = mkdtempSync(join(tmpdir(), 'dutyfree-unscaled-'))
      cpSync(spec.checkpoint, checkpoint, { recursive: true })
      const path = join(checkpoint, 'config.json')
      const config = JSON.parse(readFileSync(path, 'utf8'))
      const { rope_theta } = config.rope_parameters ?? config
      delete config.rope_scaling
      writeFileSync(path, JSON.stringify({ ...config, rope_parameters: { rope_theta } }))
      const model = await openServedModel({ checkpoint, adapters })
      try {
        const [tokens] = spec.prompts
        const logits = await model.runner.prefill({
          row: 0,
          tokens: tokens!,
          past: 0,
          components: [],
        })
        const want = expected('base', 0).subarray(-model.config.vocabSize)
        assert.ok(largestDifference(logits, want) > 100 * tolerance)
      } finally {
        model.close()
        close()
        rmSync(checkpoint, { recursive: true, force: true })
      }
    })
  }

  for (const { name, kernels } of cases) {
    const skip = kernels === 'own' && ownKernels() === null && 'not built for this machine'
    describe(`${name}, kernels: ${kernels}`, { skip }, () => {
      it('gives the same logits for every adapter, all in one batch', async () => {
        const { spec, expected, adapters, close } = readCase(join(fixtures, name))
        const model = await openServedModel({
          checkpoint: spec.checkpoint,
          adapters,
          sites: await sitesOfFolders(await readFolderEntries(adapters)),
          kernels,
        })
        try {
          const variants = Object.keys(spec.variants)
          const { vocabSize } = model.config
          for (const [p, prompt] of spec.prompts.entries()) {
            const rows: (readonly ScaledRankOne[])[] = []
            for (const variant of variants) {
              rows.push(await model.components(spec.variants[variant] ?? {}))
            }
            // Row r runs variant r: five tokens of prefill, the rest forced one by one.
            const references = variants.map((variant) => expected(variant, p))
            const split = 5
            for (const [row, components] of rows.entries()) {
              const tokens = prompt.slice(0, split)
              const logits = await model.runner.prefill({ row, tokens, past: 0, components })
              const want = references[row]!.subarray((split - 1) * vocabSize, split * vocabSize)
              const difference = largestDifference(logits, want)
              assert.ok(difference <= tolerance, `${variants[row]} prefill: |Δ| ${difference}`)
            }
            for (let position = split; position < prompt.length; position++) {
              const batch = rows.map((components) => {
                return { token: prompt[position] as number, past: position, components }
              })
              const logits = await model.runner.decode(batch)
              for (const [row, variant] of variants.entries()) {
                const got = logits.subarray(row * vocabSize, (row + 1) * vocabSize)
                const at = position * vocabSize
                const want = references[row]!.subarray(at, at + vocabSize)
                const difference = largestDifference(got, want)
                assert.ok(difference <= tolerance, `${variant} at ${position}: |Δ| ${difference}`)
              }
            }
          }
        } finally {
          model.close()
          close()
        }
      })

      it('gives the logits of merge_and_unload where adapters are folded into the weights', async () => {
        const { spec, expected, adapters, close } = readCase(join(fixtures, name))
        const sites = await sitesOfFolders(await readFolderEntries(adapters))
        const cacheDir = mkdtempSync(join(tmpdir(), 'dutyfree-merged-'))
        const { checkpoint } = spec
        try {
          for (const [variant, merged] of Object.entries(spec.variants)) {
            const options = { checkpoint, adapters, sites, kernels, merged, cacheDir }
            const model = await openServedModel(options)
            try {
              for (const [p, tokens] of spec.prompts.entries()) {
                const input = { row: 0, tokens, past: 0, components: [], numLogits: tokens.length }
                const logits = await model.runner.prefill(input)
                const difference = largestDifference(logits, expected(`merged.${variant}`, p))
                assert.ok(difference <= tolerance, `${variant} merged: |Δ| ${difference}`)
              }
            } finally {
              model.close()
            }
          }
        } finally {
          close()
          rmSync(cacheDir, { recursive: true, force: true })
        }
      })

      it('gives the same log-probability of every token of a prompt', async () => {
        const { spec, expected, adapters, close } = readCase(join(fixtures, name))
        const sites = await sitesOfFolders(await readFolderEntries(adapters))
        const model = await openServedModel({
          checkpoint: spec.checkpoint,
          adapters,
          sites,
          kernels,
        })
        try {
          const { vocabSize } = model.config
          for (const [variant, strengths] of Object.entries(spec.variants)) {
            const components = await model.components(strengths)
            for (const [p, tokens] of spec.prompts.entries()) {
              const numLogits = tokens.length
              const input = { row: 0, tokens, past: 0, components, numLogits }
              const logits = await model.runner.prefill(input)
              const reference = expected(variant, p)
              for (let i = 0; i + 1 < tokens.length; i++) {
                const token = tokens[i + 1] as number
                const rowOf = (all: Float32Array) =>
                  all.subarray(i * vocabSize, (i + 1) * vocabSize)
                const got = logprobsOf(rowOf(logits), token, 0).sampled.logprob
                const difference = Math.abs(got - logSoftmax(rowOf(reference), token))
                assert.ok(difference <= tolerance, `${variant} ${p} at ${i}: |Δ| ${difference}`)
              }
            }
          }
        } finally {
          model.close()
          close()
        }
      })

      for (const site of ['residual', 'mlp_output'] as const) {
        it(`gives the same w · h of every token: probe of ${site}`, async () => {
          const { spec, read, adapters, close } = readCase(join(fixtures, name))
          const model = await openServedModel({
            checkpoint: spec.checkpoint,
            adapters,
            sites: await sitesOfFolders(await readFolderEntries(adapters)),
            kernels,
            probe: { place: { layer: 1, site }, direction: read('probe.direction') },
          })
          try {
            for (const [variant, strengths] of Object.entries(spec.variants)) {
              const components = await model.components(strengths)
              for (const [p, tokens] of spec.prompts.entries()) {
                const want = read(`probe.${site}.${variant}.${p}`)
                const ask = { row: 0, tokens, past: 0, components, numLogits: tokens.length }
                await model.runner.prefill(ask)
                const difference = largestDifference(model.runner.probe!, want)
                const size = want.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
                const told = `${variant} ${p}: |Δ| ${difference} of ${size}`
                // Random weights make some products a thousand times as large as others.
                assert.ok(size > 1 && difference <= (tolerance / 10) * size, told)
              }
            }
          } finally {
            model.close()
            close()
          }
        })
      }

      it('is a test that can fail: adapters move the logits far beyond the tolerance', () => {
        const { spec, expected, close } = readCase(join(fixtures, name))
        for (const variant of Object.keys(spec.variants).filter((key) => key !== 'base')) {
          const moved = largestDifference(expected(variant, 0), expected('base', 0))
          assert.ok(moved >= 100 * tolerance, `${variant} moves logits by ${moved} only`)
        }
        close()
      })

      it('catches a flipped sign of an adapter', async () => {
        const { spec, expected, adapters, close } = readCase(join(fixtures, name))
        const model = await openServedModel({
          checkpoint: spec.checkpoint,
          adapters,
          sites: await sitesOfFolders(await readFolderEntries(adapters)),
          kernels,
        })
        try {
          const components = await model.components(spec.variants.a ?? {})
          const flipped = components.map(({ component, scale }) => ({ component, scale: -scale }))
          const prompt = spec.prompts[0]!
          const logits = await model.runner.prefill({
            row: 0,
            tokens: prompt,
            past: 0,
            components: flipped,
          })
          const want = expected('a', 0).subarray(-model.config.vocabSize)
          assert.ok(largestDifference(logits, want) > 10 * tolerance)
        } finally {
          model.close()
          close()
        }
      })

      it('gives the same greedy tokens', async (t) => {
        const { spec, adapters, close } = readCase(join(fixtures, name))
        const model = await openServedModel({
          checkpoint: spec.checkpoint,
          adapters,
          sites: await sitesOfFolders(await readFolderEntries(adapters)),
          kernels,
        })
        let numExcused = 0
        try {
          for (const [variant, wanted] of Object.entries(spec.greedy)) {
            const components = await model.components(spec.variants[variant] ?? {})
            for (const [i, prompt] of spec.greedyPrompts.entries()) {
              const want = wanted[i] as number[]
              const { tokens, gaps } = await model.greedy(prompt, components, want.length)
              const at = tokens.findIndex((token, step) => token !== want[step])
              if (at < 0) continue
              const gap = gaps[at] as number
              assert.ok(gap < tolerance, `${variant} prompt ${i} token ${at}: top-2 gap ${gap}`)
              numExcused++
            }
          }
        } finally {
          model.close()
          close()
        }
        t.diagnostic(`${numExcused} divergences where the two best tokens tie within ${tolerance}`)
      })
    })
  }
})
