// How fast each layout of quantised weights decodes: the bare runner, random weights, layouts
// taking turns so that a busy machine slows all alike. Prints the median tokens per second as
// Markdown. With one thread the processor's time is counted, which a busy machine changes least.
//   node dist/bench/models/random-checkpoint.js qwen2.5-0.5b runs/random-0.5b
//   node dist/bench/tools/weight-speed.js runs/random-0.5b [rounds, 7]
//     ["stored; int4, block 128": only these] [threads, 0: one a core]

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { WeightFormat } from '../../server/contracts/checkpoint.ts'
import { openServedModel } from '../../test/support/served-model.ts'
import { spread } from '../statistics.ts'
import { chosen, ownFormats, quantizedFormats, titleOf } from './weight-formats.ts'

const promptTokens = 128
const stepsOf = { 1: 24, 8: 8 } as const
const streams = [1, 8] as const

const [folder = 'runs/random-0.5b', rounds = '7', only = '', threads = '0'] = process.argv.slice(2)
const checkpoint = resolve(folder)
const layouts = chosen<WeightFormat>([...ownFormats(checkpoint), ...quantizedFormats(false)], only)

/** In ms. */
function now(): number {
  if (threads !== '1') return performance.now()
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

type Model = Awaited<ReturnType<typeof openServedModel>>

/** Tokens per second of `count` streams over one short run. */
async function decodeRate({ runner }: Model, count: 1 | 8): Promise<number> {
  const row = { token: 17, past: promptTokens, components: [] }
  const batch = Array.from({ length: count }, () => row)
  await runner.decode(batch)
  const start = now()
  for (let step = 0; step < stepsOf[count]; step++) await runner.decode(batch)
  return (count * stepsOf[count] * 1000) / (now() - start)
}

async function prefillRate({ runner }: Model): Promise<number> {
  const tokens = Array.from({ length: promptTokens }, (_, i) => i + 5)
  const start = now()
  await runner.prefill({ row: 0, tokens, past: 0, components: [] })
  return (promptTokens * 1000) / (now() - start)
}

const adapters = mkdtempSync(join(tmpdir(), 'dutyfree-speed-'))
const measured = new Map<WeightFormat, { one: number[]; eight: number[]; prefill: number[] }>()
const models = new Map<WeightFormat, Model>()
for (const format of layouts) {
  models.set(
    format,
    await openServedModel({
      checkpoint,
      adapters,
      format,
      capacity: 256,
      threads: Number(threads),
    }),
  )
  measured.set(format, { one: [], eight: [], prefill: [] })
}
for (let round = 0; round < Number(rounds); round++) {
  for (const [format, model] of models) {
    const rates = measured.get(format)!
    rates.prefill.push(await prefillRate(model))
    const [one, eight] = streams
    rates.one.push(await decodeRate(model, one))
    rates.eight.push(await decodeRate(model, eight))
  }
}
console.log('| weights | 1 stream | 8 streams | prefill of 128 |')
console.log('| --- | --- | --- | --- |')
for (const [format, { one, eight, prefill }] of measured) {
  const cells = [one, eight, prefill].map((rates) => spread(rates).median.toFixed(0))
  console.log(`| ${titleOf(format)} | ${cells.join(' | ')} |`)
}
for (const model of models.values()) model.close()
rmSync(adapters, { recursive: true, force: true })
