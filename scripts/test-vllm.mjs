// npm run test:vllm: the front over a real vLLM beside our own engine, on SmolLM2-135M and its adapters. By
// hand: it installs 5.5 GB once, needs AVX2, and takes minutes. Prints versions and seconds.

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fetchModel } from './real-model.mjs'
import { build, installNode, root, run } from './setup.mjs'
import { installVllm, requireProcessor, startVllm, versions } from './vllm.mjs'

const port = 8412
const begun = performance.now()
requireProcessor()
installNode()
if (build() !== 0) process.exit(1)
const { parseCommand } = await import(new URL('../dist/server/config.js', import.meta.url).href)
const { cacheDir } = parseCommand([], process.env).config
const gguf = fetchModel({ cacheDir })
installVllm()
const place = mkdtempSync(join(tmpdir(), 'dutyfree-vllm-'))
process.on('exit', () => rmSync(place, { recursive: true, force: true }))
const model = join(place, 'model')
const exporter = join(root, 'dist/server/export-model.js')
if (run(process.execPath, [exporter, '--model', gguf, '--output', model]) !== 0) process.exit(1)
console.error(`dutyfree: starting vLLM ${versions.vllm} (torch ${versions.torch})`)
const upstream = await startVllm({
  ...{ model, port, modules: ['up_proj'] },
  stdio: ['ignore', 'ignore', 'inherit'],
})
const started = performance.now()
const settings = { model, adapters: join(root, 'adapters'), upstream: `http://127.0.0.1:${port}` }
writeFileSync(join(place, 'vllm.json'), JSON.stringify(settings))
const folder = join(root, 'dist', 'test', 'vllm')
const tests = readdirSync(folder).filter((name) => name.endsWith('.test.js'))
const flags = ['--test', '--test-reporter=spec', '--test-concurrency=1']
const code = run(process.execPath, [...flags, ...tests.map((name) => join(folder, name))], {
  env: { ...process.env, DUTYFREE_VLLM: place },
})
upstream.kill('SIGTERM')
const seconds = (from, to) => ((to - from) / 1000).toFixed(0)
console.error(
  `dutyfree: until vLLM answered ${seconds(begun, started)} s, tests ${seconds(started, performance.now())} s`,
)
process.exit(code)
