// npm run test:vllm [-- NAME …]: the front over real vLLMs beside our own engine, on SmolLM2-135M and its
// adapters; all of test/vllm, or the files whose name contains one of these. By hand: it installs 5.5 GB once,
// needs AVX2 and some 12 GiB, and takes a quarter of an hour. Prints versions and seconds.
//   --dtype bfloat16    float32 by default: our own engine, beside which it is compared, computes in it

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fetchModel } from './real-model.mjs'
import { build, installNode, root, run } from './setup.mjs'
import { installVllm, requireProcessor, startVllm, versions } from './vllm.mjs'

const { values, positionals: filters } = parseArgs({
  options: { dtype: { type: 'string', default: 'float32' } },
  allowPositionals: true,
})
const begun = performance.now()
const secondsSince = (from) => ((performance.now() - from) / 1000).toFixed(0)
requireProcessor()
installNode()
if (build() !== 0) process.exit(1)
const { parseCommand } = await import(new URL('../dist/server/config.js', import.meta.url).href)
const { cacheDir } = parseCommand([], process.env).config
const gguf = fetchModel({ cacheDir })
installVllm()
const place = mkdtempSync(join(tmpdir(), 'dutyfree-vllm-'))
/** The tests, and what they start that is no vLLM; 0: not yet. */
let testsGroup = 0
process.on('exit', () => {
  // They first: one of them may be starting an upstream.
  if (testsGroup !== 0) endGroup(testsGroup)
  for (const file of readdirSync(place).filter((name) => name.endsWith('.pid'))) {
    endGroup(Number(readFileSync(join(place, file), 'utf8')))
  }
  rmSync(place, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1))

/** Tests end and start some upstreams anew: each is the leader of a group of its own. */
function endGroup(pid) {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

const model = join(place, 'model')
const exporter = join(root, 'dist/server/export-model.js')
if (run(process.execPath, [exporter, '--model', gguf, '--output', model]) !== 0) process.exit(1)

const usual = { model, dtype: values.dtype, kvGiB: 1, detached: true }
/** As test/vllm/place.ts finds them. */
const upstreams = {
  usual: { ...usual, port: 8412 },
  small: {
    ...{ ...usual, port: 8413, name: 'another-name', maxLoras: 1, maxRank: 1, tellsCached: false },
    ...{ modules: ['up_proj'], drainSeconds: 120 },
  },
}
writeFileSync(
  join(place, 'vllm.json'),
  JSON.stringify({ model, adapters: join(root, 'adapters'), upstreams }),
)
console.error(
  `dutyfree: vLLM ${versions.vllm}, torch ${versions.torch}, Node ${process.versions.node}, ` +
    `${values.dtype}, ${cpus().length} cores (${cpus()[0].model.trim()}): starting two`,
)
for (const [name, options] of Object.entries(upstreams)) {
  const started = performance.now()
  const log = openSync(join(place, `${name}.log`), 'a')
  const onStarted = ({ pid }) => writeFileSync(join(place, `${name}.pid`), `${pid}`)
  await startVllm({ ...options, stdio: ['ignore', log, log], onStarted })
  console.error(`dutyfree: ${name} answered after ${secondsSince(started)} s`)
}
const ready = performance.now()
const folder = join(root, 'dist', 'test', 'vllm')
const tests = readdirSync(folder).filter(
  (name) =>
    name.endsWith('.test.js') &&
    (filters.length === 0 || filters.some((part) => name.includes(part))),
)
const flags = ['--test', '--test-reporter=spec', '--test-concurrency=1']
// Not synchronous: a signal must end the upstreams, too.
const child = spawn(process.execPath, [...flags, ...tests.map((name) => join(folder, name))], {
  stdio: ['ignore', 'inherit', 'inherit'],
  detached: true,
  env: { ...process.env, DUTYFREE_VLLM: place },
})
testsGroup = child.pid
const [code] = await once(child, 'exit')
console.error(`dutyfree: tests ${secondsSince(ready)} s, in all ${secondsSince(begun)} s`)
process.exit(code ?? 1)
