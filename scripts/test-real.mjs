// npm run test:real: a real language model (93 MB, fetched once) against transformers, PEFT and
// llama.cpp, by the tests of test/real. Prints how far they are from one another.

import {
  cpSync,
  existsSync,
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
    const path = join(folder, id, 'manifest.json')
    // A server that was started here leaves a folder of its own, .dutyfree.
    if (!existsSync(path)) return false
    const manifest = JSON.parse(readFileSync(path, 'utf8'))
    return manifest.base_digest === smolLm2.sha256 && manifest.kind !== 'guard'
  })
}

function mustRun(program, args, env) {
  if (run(program, args, { stdio: ['ignore', 'ignore', 'inherit'], env }) !== 0) fail('that failed')
}

/** What test/real/{place,reference}.ts read. */
function makeReference(place, modelPath, env) {
  writeFileSync(join(place, 'real.json'), JSON.stringify({ modelPath }))
  const adapters = join(place, 'adapters')
  mkdirSync(adapters)
  for (const id of shippedAdapters()) {
    cpSync(join(root, 'adapters', id), join(adapters, id), { recursive: true })
  }
  mustRun(process.execPath, [join(root, 'dist/test/real/make-answers.js')], env)
  const exported = join(place, 'exported')
  const exporter = join(root, 'dist/server/export-model.js')
  mustRun(process.execPath, [exporter, '--model', modelPath, '--output', exported], env)
  const given = ['--model', modelPath, '--answers', join(place, 'answers.json')]
  const folders = ['--exported', exported, '--adapters', adapters, '--output', place]
  const script = join(root, 'training/tests/real_reference.py')
  mustRun(python, [script, ...given, ...folders], env)
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
// Without the progress bars of Python's libraries.
const env = { ...process.env, DUTYFREE_REAL: place, TQDM_DISABLE: '1', PYTHONWARNINGS: 'ignore' }
makeReference(place, modelPath, env)
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
    { env },
  ),
)
