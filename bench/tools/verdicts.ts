// What a guard costs running rows: its empty sites, its probe, and a verdict step. One process,
// interleaved; decode steps of eight rows, each with an adapter of rank 1 on up_proj.
// With one thread the processor's time is counted, which a busy machine changes least.
//   node dist/bench/tools/verdicts.js <checkpoint> <int4|int8> [rank] [rounds] [threads, 2]

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import { type LinearModule, linearModules } from '../../server/contracts/checkpoint.ts'
import { writeRandomAdapter } from '../models/random-adapter.ts'
import { adapterName } from '../models/random-adapters.ts'
import { openEngineRunner } from '../peers/engine-runner.ts'
import { spread } from '../statistics.ts'

const [checkpointDir = '', weights = 'int4', rank = '16', rounds = '15', threads = '2'] =
  process.argv.slice(2)
const bits = weights === 'int8' ? 8 : 4
const [rows, past, steps] = [8, 256, 16]
const guardModules = ['q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const
const format = {
  kind: 'quantized',
  bits,
  block: 128,
  zeroPoints: false,
  searchScales: bits === 4,
} as const

const checkpoint = openCheckpoint(checkpointDir)
const { config } = checkpoint
checkpoint.close()
const adapterRoot = mkdtempSync(join(tmpdir(), 'dutyfree-verdicts-'))
/** The running adapter, and the guard. */
const adapters = [
  { rank: 1, modules: ['up_proj'] },
  { rank: Number(rank), modules: guardModules },
] as const
for (const [i, adapter] of adapters.entries()) {
  writeRandomAdapter(adapterRoot, adapterName(i), config, { ...adapter, dtype: 'BF16', seed: i })
}

function open(
  sites: readonly LinearModule[],
  hasProbe: boolean,
  verdictSites?: readonly LinearModule[],
) {
  return openEngineRunner({
    checkpointDir,
    cacheDir: process.env.CACHE_DIR ?? join(tmpdir(), 'dutyfree-bench'),
    format,
    sites,
    ...(verdictSites && { verdictSites }),
    probe: hasProbe ? { layer: config.numLayers >> 1, site: 'residual' } : null,
    capacity: past + steps + 1,
    rows,
    threads: Number(threads),
    // The sites of up_proj alone hold no guard.
    resident: sites.length === 1 && verdictSites === undefined ? 1 : adapters.length,
    adapterRoot,
  })
}

const sites = linearModules.filter((module) => guardModules.some((name) => name === module))
const engines = {
  plain: await open(['up_proj'], false),
  sites: await open(sites, false),
  probe: await open(sites, true),
  aside: await open(['up_proj'], true, sites),
}
rmSync(adapterRoot, { recursive: true })
const all = Array.from({ length: rows }, (_, row) => row)
for (const engine of Object.values(engines)) {
  const prompt = Array.from({ length: past }, (_, i) => (i * 37) % 1000)
  await engine.prefill(0, prompt, 0, 0)
  for (const row of all.slice(1)) engine.copyRow(0, row, past)
}

function decode(name: keyof typeof engines) {
  return async (step: number) => {
    await engines[name].decode(all.map(() => ({ token: 7, past: past + step, adapter: 0 })))
  }
}

function judge(name: 'probe' | 'aside', wanted: readonly [number, number] | null) {
  return async (step: number) => {
    const batch = all.map(() => ({ token: 5, past: past + step }))
    await engines[name].verdict(batch, 1, wanted)
  }
}

const verdictAside = `verdict, rank ${rank}, two logits, in a graph of its own`
/** In ms. */
function now(): number {
  if (threads !== '1') return performance.now()
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

const kinds: Readonly<Record<string, (step: number) => Promise<void>>> = {
  'decode, sites of up_proj': decode('plain'),
  'decode, empty sites of a guard': decode('sites'),
  'decode, empty sites and a probe': decode('probe'),
  'decode and a probe, verdicts in a graph of their own': decode('aside'),
  [`verdict, rank ${rank}, all logits`]: judge('probe', null),
  [`verdict, rank ${rank}, two logits`]: judge('probe', [10, 11]),
  [verdictAside]: judge('aside', [10, 11]),
}
const times = new Map(Object.keys(kinds).map((name) => [name, [] as number[]]))
for (let round = -1; round < Number(rounds); round++) {
  for (const [name, run] of Object.entries(kinds)) {
    const start = now()
    for (let step = 0; step < steps; step++) await run(step)
    if (round >= 0) times.get(name)!.push((now() - start) / steps)
  }
}
const base = times.get('decode, sites of up_proj')!
for (const [name, own] of times) {
  const { median, min, max } = spread(own.map((ms, i) => ms / base[i]!))
  const ms = spread(own).median.toFixed(1)
  const ratio = `${median.toFixed(3)} (${min.toFixed(3)}–${max.toFixed(3)})`
  console.log(`${name}: ${ms} ms, ratio ${ratio}`)
}
const whole = spread(times.get(verdictAside)!.map((ms, i) => ms / base[i]!)).median
for (const every of [32, 64]) {
  console.log(
    `a verdict every ${every} tokens: ${((100 * whole) / every).toFixed(2)} % of the steps' time`,
  )
}
for (const engine of Object.values(engines)) engine.release()
