// A thousand rank-1 adapters beside one model: listing, start, loading, memory, decode steps with
// any 8 of them in a batch, and what it takes to switch a row.
//   node dist/bench/models/random-checkpoint.js qwen2.5-0.5b runs/r05
//   node dist/bench/tools/adapters-at-scale.js runs/r05 runs/adapters-r05 [--count 1000]
//     [--cache runs/cache]

import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { readFolderEntries } from '../../server/adapters/folder-index.ts'
import { createAdapterReader } from '../../server/adapters/reader.ts'
import { sitesOfFolders } from '../../server/adapters/sites.ts'
import { createAdapterStore } from '../../server/adapters/store.ts'
import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import type { ScaledRankOne } from '../../server/contracts/adapter.ts'
import { readableBytes } from '../../server/contracts/bytes.ts'
import { convertCheckpoint } from '../../server/conversion/convert.ts'
import { formatOf, resolveWeights } from '../../server/engine/weights.ts'
import { createRunner } from '../../server/model/runner.ts'
import { cpuDevice } from '../../server/runtime/device.ts'
import { writeRandomAdapter } from '../models/random-adapter.ts'

const numRows = 8
const numSteps = 12
const numRounds = 6
const capacity = 512

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    count: { type: 'string', default: '1000' },
    cache: { type: 'string', default: 'runs/cache' },
  },
})
const [dir, root] = positionals
if (dir === undefined || root === undefined) {
  console.error('usage: adapters-at-scale <checkpoint folder> <adapters folder> [--count n]')
  process.exit(2)
}
const count = Number(values.count)
const ids = Array.from({ length: count }, (_, i) => `random-${i}`)

async function time<T>(what: string, work: () => T | Promise<T>): Promise<T> {
  const start = performance.now()
  const value = await work()
  console.log(`${what}: ${(performance.now() - start).toFixed(0)} ms`)
  return value
}
function spread(times: readonly number[]): string {
  const sorted = [...times].sort((x, y) => x - y)
  function at(share: number) {
    return sorted[Math.floor(share * (sorted.length - 1))]!.toFixed(1)
  }

  return `least ${at(0)}, quarter ${at(0.25)}, median ${at(0.5)} ms`
}

// 1. A folder of adapters.
const checkpoint = openCheckpoint(dir)
const { config } = checkpoint
mkdirSync(root, { recursive: true })
for (const [i, id] of ids.entries()) {
  if (existsSync(join(root, id))) continue
  writeRandomAdapter(root, id, config, { rank: 1, modules: ['up_proj'], dtype: 'BF16', seed: i })
}
const sites = await time(`sites of ${count} folders`, async () =>
  sitesOfFolders(await readFolderEntries(root)),
)

// 2. All of them in memory.
const reader = createAdapterReader()
const store = createAdapterStore({
  root,
  modelConfig: config,
  sites: new Set(sites),
  maxBytes: Number.POSITIVE_INFINITY,
  maxRankPerRow: 16,
  read: reader.read,
})
await time(`first list of ${count}`, () => store.list())
await time('the same again', () => store.list())
async function load(id: string) {
  const held = await store.acquire({ adapters: [{ id, scale: null }], required: [] })
  held.release()
  return held.components
}
await load(ids[0]!)
const rssBefore = process.memoryUsage.rss()
const start = performance.now()
const all: (readonly ScaledRankOne[])[] = []
for (const id of ids) all.push(await load(id))
const seconds = (performance.now() - start) / 1000
const grown = process.memoryUsage.rss() - rssBefore
console.log(
  `loaded ${count} one after the other: ${(count / seconds).toFixed(0)} a second; vectors ` +
    `${readableBytes(store.usedBytes)}, resident memory grew by ${readableBytes(grown)}`,
)
await time('list with all resident', () => store.list())

// 3. Decode steps: 8 rows of one adapter, of 8 fixed ones, of 8 others of the thousand in each
// round.
const { graphPath } = await convertCheckpoint({
  dir,
  checkpoint,
  maxContext: capacity,
  format: formatOf(resolveWeights('auto', { ...checkpoint, keepsNumbers: false }, cpuDevice), {
    weightBlock: null,
    weightZeroPoints: null,
  }),
  sites,
  cacheDir: values.cache,
})
const runner = createRunner({
  graphPath,
  config,
  threads: 0,
  rows: numRows,
  shape: { rows: numRows, capacity },
  sites,
  maxChunk: 128,
})
let state = 1
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return all[Math.floor((state / 2 ** 32) * count)]!
}
async function step(rows: readonly (readonly ScaledRankOne[])[]): Promise<number> {
  const begin = performance.now()
  await runner.decode(rows.map((components, row) => ({ token: 5 + row, past: 20, components })))
  return performance.now() - begin
}
function rowsOf(choose: (row: number) => readonly ScaledRankOne[]) {
  return Array.from({ length: numRows }, (_, row) => choose(row))
}

const kinds = [
  { title: 'base', rows: () => rowsOf(() => []) },
  { title: 'one adapter on all rows', rows: () => rowsOf(() => all[0]!) },
  { title: '8 adapters, always the same', rows: () => rowsOf((row) => all[row]!) },
  { title: `8 of ${count}, others in each round`, rows: () => rowsOf(random) },
]
const times = new Map<string, number[]>()
for (let round = 0; round < numRounds; round++) {
  for (const { title, rows: choose } of kinds) {
    const rows = choose()
    const own = times.get(title) ?? []
    times.set(title, own)
    // The first steps lay the rows out and write them.
    for (let i = 0; i < 20; i++) await step(rows)
    for (let i = 0; i < numSteps; i++) own.push(await step(rows))
  }
}
for (const [title, own] of times) console.log(`step of ${numRows} rows, ${title}: ${spread(own)}`)

// 4. The same batch with and without one row that switches at each step, in turn.
const steady: number[] = []
const switching: number[] = []
const rows = rowsOf(random)
for (let i = 0; i < numRounds * numSteps; i++) {
  rows[i % numRows] = random()
  switching.push(await step(rows))
  steady.push(await step(rows))
}
console.log(`step in which one row switches: ${spread(switching)}; without: ${spread(steady)}`)
runner.release()
await reader.close()
