// npm run test:clients: unmodified clients from npm and PyPI, in locked versions, against a server on the
// embedded model. Writes what it found into docs/CLIENTS.md; ends with 1 where a check fails.
//   npm run test:clients                the fixed core, in minutes; with CI=true the page stays as it is
//   npm run test:clients -- --wide      the others, too
//   npm run test:clients -- llm         those whose name has "llm"; writes nothing

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { writeClientsPage } from './clients/page.mjs'
import { clients } from './clients/table.mjs'
import { findPython, installPython, python as trainersPython } from './python.mjs'
import { build, installNode, root, run } from './setup.mjs'

const programs = join(root, 'test', 'clients')
const cache = join(root, '.cache', 'clients')
const model = 'tiny-reasoner'
/** LiteLLM would fetch prices. */
const quiet = { LITELLM_LOCAL_MODEL_COST_MAP: 'True' }
/** Of one client's program. */
const usualPatienceMs = 300_000

function fail(message) {
  console.error(`dutyfree: ${message}`)
  process.exit(1)
}

function mustRun(command, args, options) {
  if (run(command, args, options) !== 0) fail(`failed: ${command} ${args.join(' ')}`)
}

/** Whether what is installed there is what these files say; `install` makes it so. */
function installOnce(folder, files, install) {
  const hash = createHash('sha256')
  for (const file of files) hash.update(readFileSync(file))
  const wanted = hash.digest('hex')
  const marker = join(folder, '.dutyfree-lock')
  if (existsSync(marker) && readFileSync(marker, 'utf8') === wanted) return
  console.error(`dutyfree: installing clients into ${folder} (once)`)
  install()
  writeFileSync(marker, wanted)
}

/** Where a Node client's lock is; null: it is one of Python's. */
function nodeLock(env) {
  if (env === 'node') return programs
  const folder = join(programs, env)
  return existsSync(join(folder, 'package-lock.json')) ? folder : null
}

function installClients(env, usesTorch) {
  const folder = join(cache, env)
  mkdirSync(folder, { recursive: true })
  const lockFolder = nodeLock(env)
  if (lockFolder !== null) {
    const names = ['package.json', 'package-lock.json']
    const files = names.map((name) => join(lockFolder, name))
    installOnce(folder, files, () => {
      for (const name of names) cpSync(join(lockFolder, name), join(folder, name))
      const npm = ['ci', '--ignore-scripts', '--no-audit', '--no-fund']
      mustRun('npm', npm, { cwd: folder })
    })
    cpSync(join(programs, 'node'), folder, { recursive: true })
    return
  }
  const lock = join(programs, 'python', `${env}.txt`)
  installOnce(folder, [lock], () => {
    mustRun(findPython(), ['-m', 'venv', folder])
    // Of some 20,000 modules a program imports few: what it imports is compiled then.
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-compile']
    mustRun(pythonOf(env), [...pip, '--no-deps', '-r', lock])
  })
  if (usesTorch) shareTorch(env)
}

/** The trainer's packages, torch among them, behind those of this environment. */
function shareTorch(env) {
  if (!existsSync(trainersPython)) installPython()
  const script = 'import sysconfig; print(sysconfig.get_path("purelib"))'
  const [from, to] = [trainersPython, pythonOf(env)].map((interpreter) =>
    String(spawnSync(interpreter, ['-c', script]).stdout).trim(),
  )
  writeFileSync(join(to, 'trainer.pth'), `${from}\n`)
}

function pythonOf(env) {
  return join(cache, env, 'bin', 'python')
}

function versionOf(env, name) {
  if (nodeLock(env) !== null) {
    const file = join(cache, env, 'node_modules', name, 'package.json')
    return JSON.parse(readFileSync(file, 'utf8')).version
  }
  const script = 'import sys, importlib.metadata as m; print(m.version(sys.argv[1]))'
  return String(spawnSync(pythonOf(env), ['-c', script, name]).stdout).trim()
}

/** The server on a free port, as users start it; `ignored`: fields that its log says it did without. */
async function startServer(place) {
  const folders = ['--adapters', join(place, 'adapters'), '--cache-dir', join(place, 'cache')]
  const main = join(root, 'dist', 'server', 'main.js')
  const args = [main, '--port', '0', '--log-level', 'info', '--max-batch', '4', ...folders]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const ignored = new Set()
  const url = await new Promise((resolve, reject) => {
    child.once('exit', () => reject(new Error('the server did not start')))
    createInterface({ input: child.stderr }).on('line', (line) => {
      const said = line.startsWith('{') ? JSON.parse(line) : {}
      if (said.msg === 'ready') resolve(said.url)
      for (const field of said.ignoredFields ?? []) ignored.add(field)
    })
  })
  return { url, ignored, stop: () => child.kill('SIGTERM') }
}

/** What its program tells, and that it came to its end. */
async function checkClient({ env, program, patienceMs = usualPatienceMs }, url, place) {
  const home = mkdtempSync(join(place, 'home-'))
  const [command, path] =
    nodeLock(env) !== null
      ? [process.execPath, join(cache, env, program)]
      : [pythonOf(env), join(programs, 'python', program)]
  const given = { HOME: home, DUTYFREE_URL: url, DUTYFREE_MODEL: model, DUTYFREE_ROOT: root }
  const child = spawn(command, [path], {
    cwd: home,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...quiet, ...given },
    timeout: patienceMs,
  })
  const [stdout, stderr, [status, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ])
  const checks = stdout
    .split('\n')
    .filter((line) => line.startsWith('{"check"'))
    .map((line) => JSON.parse(line))
  if (status === 0) return checks
  const why = signal ? `ended after ${patienceMs / 1000} s` : stderr.trim().split('\n').at(-1)
  return [...checks, { check: 'its program', ok: false, why: why?.slice(0, 300) }]
}

const [only] = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const isWide = process.argv.includes('--wide')
const chosen = clients.filter(
  (client) =>
    (only === undefined || client.name.toLowerCase().includes(only.toLowerCase())) &&
    (only !== undefined || isWide || !client.isWide),
)
installNode()
if (build() !== 0) process.exit(1)
for (const [env, { usesTorch }] of new Map(chosen.map((client) => [client.env, client]))) {
  installClients(env, usesTorch)
}
const place = mkdtempSync(join(tmpdir(), 'dutyfree-clients-'))
const server = await startServer(place)
const results = []
try {
  for (const client of chosen) {
    const startMs = performance.now()
    server.ignored.clear()
    const checks = await checkClient(client, server.url, place)
    const versions = client.packages.map((name) => `${name} ${versionOf(client.env, name)}`)
    const unused = [...server.ignored].sort()
    results.push({ name: client.name, isWide: client.isWide ?? false, versions, checks, unused })
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
    console.log(`${client.name} (${versions.join(', ')}), ${seconds} s`)
    for (const { check, ok, why } of checks)
      console.log(`  ${ok ? '✓' : '✗'} ${check}${ok ? '' : `: ${why}`}`)
    if (unused.length > 0) console.log(`  went unused: ${unused.join(', ')}`)
  }
} finally {
  server.stop()
  rmSync(place, { recursive: true, force: true })
}
if (only === undefined && process.env.CI !== 'true') writeClientsPage(results, model)
process.exit(results.every(({ checks }) => checks.every(({ ok }) => ok)) ? 0 : 1)
