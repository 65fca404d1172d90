// How long a cold load takes and for how long it holds up the thread that decodes: adapters of a 7B
// model, read in this thread and by the reader's. Then writing each into a row of a batch.
//   node dist/bench/tools/adapter-load.js

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { findAdapterFolder } from '../../server/adapters/adapter-folder.ts'
import {
  type LoadedAdapter,
  type ReadAdapter,
  readPeftAdapter,
} from '../../server/adapters/peft.ts'
import { createAdapterReader } from '../../server/adapters/reader.ts'
import { type LinearModule, linearModules } from '../../server/contracts/checkpoint.ts'
import { createAdapterRows } from '../../server/model/adapter-rows.ts'
import { configOf, writeRandomAdapter } from '../models/random-adapter.ts'
import { shapes } from '../models/shapes.ts'
import { spread } from '../statistics.ts'

const numRuns = 7
const model = configOf(shapes['r1-qwen-7b'])
const up: readonly LinearModule[] = ['up_proj']
const kinds = [
  { id: 'rank-1-up-bf16', rank: 1, modules: up, dtype: 'BF16' },
  { id: 'rank-1-up-f32', rank: 1, modules: up, dtype: 'F32' },
  { id: 'rank-16-all-bf16', rank: 16, modules: linearModules, dtype: 'BF16' },
] as const

/** Longest time in which a timer of the event loop did not come, and how long the work took. */
async function watch<T>(work: () => Promise<T>) {
  let longest = 0
  let isOver = false
  let last = performance.now()
  function look() {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    if (!isOver) setImmediate(look)
  }
  setImmediate(look)
  const start = performance.now()
  const value = await work()
  const took = performance.now() - start
  await new Promise((resolve) => setImmediate(resolve))
  isOver = true
  return { value, took, longest }
}

function ms(values: readonly number[]): string {
  const { median, min, max } = spread(values)
  return `${median.toFixed(1)} ms (${min.toFixed(1)}–${max.toFixed(1)})`
}

// What the machine's other work does to a thread that has nothing to do.
const idle: number[] = []
for (let run = 0; run < numRuns; run++) idle.push((await watch(() => sleep(50))).longest)
console.log(`nothing for 50 ms: thread held ${ms(idle)}`)

const root = mkdtempSync(join(tmpdir(), 'dutyfree-bench-'))
const reader = createAdapterReader()
try {
  for (const kind of kinds) {
    writeRandomAdapter(root, kind.id, model, { ...kind, seed: 1 })
    const folder = findAdapterFolder(root, kind.id)!
    const options = { model, maxRank: 16, served: new Set(linearModules) }
    let adapter: LoadedAdapter | undefined
    for (const [where, read] of [
      ['in this thread', readPeftAdapter],
      ['by the reader', reader.read],
    ] as readonly [string, ReadAdapter][]) {
      await read(folder, options)
      const took: number[] = []
      const held: number[] = []
      for (let run = 0; run < numRuns; run++) {
        const seen = await watch(() => read(folder, options))
        adapter = seen.value
        took.push(seen.took)
        held.push(seen.longest)
      }
      console.log(`${kind.id}, read ${where}: ${ms(took)}; thread held ${ms(held)}`)
    }
    const components = adapter!.components.map((component) => ({ component, scale: 0.8 }))
    const rows = createAdapterRows({ config: model, sites: kind.modules, rows: 1, minWidth: 1 })
    const written: number[] = []
    for (let run = 0; run <= numRuns; run++) {
      const start = performance.now()
      rows.write([components.map(({ component }) => ({ component, scale: 1 + run }))])
      if (run > 0) written.push(performance.now() - start)
    }
    rows.release()
    console.log(`${kind.id}, written into a row: ${ms(written)}`)
  }
} finally {
  await reader.close()
  rmSync(root, { recursive: true, force: true })
}
