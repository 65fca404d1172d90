// Compares our own products with ONNX Runtime's in one process, interleaved: a decode step of some
// rows and a prompt of 512 tokens.
//   node dist/bench/tools/kernels.js <checkpoint> <int4|int8> [block] [rounds]

import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BlockSize, Kernels } from '../../server/contracts/checkpoint.ts'
import { openEngineRunner } from '../peers/engine-runner.ts'
import { spread } from '../statistics.ts'

const [checkpointDir = '', weights = 'int4', block = '128', rounds = '5'] = process.argv.slice(2)
const bits = weights === 'int8' ? 8 : 4
const format = {
  kind: 'quantized',
  bits,
  block: Number(block) as BlockSize,
  zeroPoints: false,
  searchScales: bits === 4,
} as const
const promptTokens = 512
const steps = 16
const batches = [1, 2, 4, 8] as const

function open(kernels: Kernels) {
  return openEngineRunner({
    checkpointDir,
    cacheDir: process.env.CACHE_DIR ?? join(tmpdir(), 'dutyfree-bench'),
    format,
    sites: ['up_proj'],
    capacity: 1024,
    kernels,
    rows: 8,
    threads: 2,
    resident: 0,
    adapterRoot: '',
  })
}

const engines = { own: await open('own'), onnxruntime: await open('onnxruntime') }
type Name = keyof typeof engines
const names = Object.keys(engines) as Name[]
const times = new Map<string, Record<Name, number[]>>()

async function measure(what: string, name: Name, units: number, work: () => Promise<void>) {
  const start = performance.now()
  await work()
  const entry = times.get(what) ?? { own: [], onnxruntime: [] }
  times.set(what, entry)
  entry[name].push((performance.now() - start) / units)
}

const prompt = Array.from({ length: promptTokens }, (_, i) => (i * 37) % 1000)
for (const name of names) {
  await engines[name].prefill(0, prompt, 0, null)
  for (let row = 1; row < 8; row++) engines[name].copyRow(0, row, promptTokens)
}
for (let round = 0; round < Number(rounds); round++) {
  for (const batch of batches) {
    for (const name of names) {
      await measure(`decode, ${batch} rows`, name, steps, async () => {
        for (let step = 0; step < steps; step++) {
          const row = { token: 7 + step, past: promptTokens + step, adapter: null }
          await engines[name].decode(Array.from({ length: batch }, () => row))
        }
      })
    }
  }
  for (const name of names) {
    await measure('prefill', name, 1, () => engines[name].prefill(0, prompt, 0, null))
  }
}
for (const [what, { own, onnxruntime }] of times) {
  const { median, min, max } = spread(own.map((ms, i) => onnxruntime[i]! / ms))
  console.log(
    `${what}: own ${spread(own).median.toFixed(1)} ms, ` +
      `ONNX Runtime ${spread(onnxruntime).median.toFixed(1)} ms, ` +
      `ratio ${median.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`,
  )
}
for (const engine of Object.values(engines)) engine.release()
