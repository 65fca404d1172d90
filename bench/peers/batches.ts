// Decode steps of some rows, all of the base and each with another adapter: times of the step alone,
// without server and sampler. With `busy`, another process takes the processor for 1 ms of every 5.
//   node dist/bench/peers/batches.js <checkpoint> <shape> <int4|int8> <rows,…> [busy] [rounds]

import { spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeRandomAdapters } from '../models/random-adapters.ts'
import { type ShapeName, shapes } from '../models/shapes.ts'
import { spread } from '../statistics.ts'
import { openEngineRunner } from './engine-runner.ts'

const [checkpointDir = '', shape = 'qwen2.5-0.5b', weights = 'int4', list = '1,8,16,32,64'] =
  process.argv.slice(2)
const more = process.argv.slice(6)
const isBusy = more.includes('busy')
const rounds = Number(more.find((word) => word !== 'busy') ?? 3)
const batches = list.split(',').map(Number)
const bits = weights === 'int8' ? 8 : 4
const cacheDir = process.env.CACHE_DIR ?? join(tmpdir(), 'dutyfree-bench')
const promptTokens = 512
const steps = 8

const adapterRoot = join(cacheDir, 'adapters', shape)
const mostRows = Math.max(...batches)
writeRandomAdapters(shapes[shape as ShapeName], mostRows, adapterRoot)
const engine = await openEngineRunner({
  checkpointDir,
  cacheDir,
  format: { kind: 'quantized', bits, block: 128, zeroPoints: false, searchScales: bits === 4 },
  sites: ['up_proj'],
  capacity: 1024,
  rows: mostRows,
  threads: 2,
  resident: mostRows,
  adapterRoot,
})

const slices = `
  const until = (ms) => { while (performance.now() < ms) {} }
  setInterval(() => until(performance.now() + 1), 5)
`
const other = isBusy ? spawn(process.execPath, ['-e', slices], { stdio: 'inherit' }) : null

/** ms a step. */
async function measure(batch: number, adapterOf: (row: number) => number | null): Promise<number> {
  const startMs = performance.now()
  for (let step = 0; step < steps; step++) {
    const past = promptTokens + step
    const rows = Array.from({ length: batch }, (_, row) => row)
    await engine.decode(rows.map((row) => ({ token: 7 + row, past, adapter: adapterOf(row) })))
  }
  return (performance.now() - startMs) / steps
}

try {
  const prompt = Array.from({ length: promptTokens }, (_, i) => (i * 37) % 1000)
  await engine.prefill(0, prompt, 0, null)
  for (let row = 1; row < mostRows; row++) engine.copyRow(0, row, promptTokens)
  console.log('| rows | step, ms | tokens/s | each with another adapter, over base |')
  console.log('| --- | --- | --- | --- |')
  for (const batch of batches) {
    const base: number[] = []
    const ratios: number[] = []
    await measure(batch, (row) => row)
    for (let round = 0; round < rounds; round++) {
      const adapted = await measure(batch, (row) => row)
      const plain = await measure(batch, () => null)
      base.push(plain)
      ratios.push(plain / adapted)
    }
    const ms = spread(base).median
    const cells = [batch, ms.toFixed(1), ((1000 * batch) / ms).toFixed(0)]
    console.log(`| ${cells.join(' | ')} | ${spread(ratios).median.toFixed(2)} |`)
  }
} finally {
  other?.kill()
  engine.release()
}
