// npm run test:real: a real language model (93 MB, fetched once) against transformers, PEFT and
// llama.cpp, by the tests of test/real. Prints how far they are from one another.

import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { installPeers } from './peers.mjs'
import { installPython, python } from './python.mjs'
import { FetchError, fetchModel, smolLm2 } from './real-model.mjs'
import { build, installNode, root, run } from './setup.mjs'

function fail(message) {
  console.error(`dutyfree: ${message}`)
  process.exit(1)
}

function fetchOrFail(cacheDir) {
  try {
    return fetchModel({ cacheDir })
  } catch (error) {
    if (!(error instanceof FetchError)) throw error
    return fail(error.message)
  }
}

/** The shipped adapters that were trained on this very model. */
function shippedAdapters() {
  const folder = join(root, 'adapters')
  return readdirSync(folder).filter((id) => {
    const manifest = JSON.parse(readFileSync(join(folder, id, 'manifest.json'), 'utf8'))
    return manifest.base_digest === smolLm2.sha256
  })
}

function mustRun(program, args) {
  if (run(program, args, { stdio: ['ignore', 'ignore', 'inherit'] }) !== 0) fail('that failed')
}

/** What test/real/reference.ts reads. */
async function makeReference(place, modelPath, serverCache) {
  const { prompts } = await import(new URL('../dist/test/real/prompts.js', import.meta.url).href)
  writeFileSync(join(place, 'prompts.json'), JSON.stringify(prompts))
  writeFileSync(join(place, 'real.json'), JSON.stringify({ modelPath, serverCache }))
  mkdirSync(join(place, 'adapters'))
  const adapters = shippedAdapters().map((id) => {
    const copy = join(place, 'adapters', id)
    cpSync(join(root, 'adapters', id), copy, { recursive: true })
    return copy
  })
  const exported = join(place, 'exported')
  const exporter = join(root, 'dist/server/export-model.js')
  mustRun(process.execPath, [exporter, '--model', modelPath, '--output', exported])
  const given = ['--model', modelPath, '--prompts', join(place, 'prompts.json')]
  const others = ['--exported', exported, '--output', place, '--adapters', ...adapters]
  mustRun(python, [join(root, 'training/tests/real_reference.py'), ...given, ...others])
}

installNode()
if (build() !== 0) process.exit(1)
installPython()
if (!installPeers()) fail('without node-llama-cpp there is nothing to compare with')
const { parseCommand } = await import(new URL('../dist/server/config.js', import.meta.url).href)
const { cacheDir } = parseCommand([], process.env).config
const modelPath = fetchOrFail(cacheDir)
const place = mkdtempSync(join(tmpdir(), 'dutyfree-real-'))
process.on('exit', () => rmSync(place, { recursive: true, force: true }))
console.error('dutyfree: computing the reference with transformers')
await makeReference(place, modelPath, cacheDir)
const folder = join(root, 'dist', 'test', 'real')
const tests = readdirSync(folder).filter((name) => name.endsWith('.test.js'))
process.exit(
  run(
    process.execPath,
    // One after the other: each uses both cores and a gigabyte.
    [
      '--test',
      '--test-reporter=spec',
      '--test-concurrency=1',
      ...tests.map((name) => join(folder, name)),
    ],
    { env: { ...process.env, DUTYFREE_REAL: place } },
  ),
)
