// npm run test:clients: unmodified clients from npm and PyPI, in locked versions, against a server on the
// embedded model. Writes what it found into docs/CLIENTS.md; ends with 1 where a check fails.
//   npm run test:clients                the fixed core, in minutes
//   npm run test:clients -- --wide      the others, too
//   npm run test:clients -- llm         those whose name has "llm"; writes nothing

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
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
import { writeClientsPage } from './clients/page.mjs'
import { findPython } from './python.mjs'
import { build, installNode, root, run } from './setup.mjs'

const programs = join(root, 'test', 'clients')
const cache = join(root, '.cache', 'clients')
const model = 'tiny-reasoner'
/** LiteLLM would fetch prices. */
const quiet = { LITELLM_LOCAL_MODEL_COST_MAP: 'True' }
/** Of one client's program. */
const patienceMs = 300_000

/** env: a lock of test/clients/python, or node. */
const clients = [
  { name: 'openai (Node)', env: 'node', program: 'openai.mjs', packages: ['openai'] },
  { name: 'openai (Python)', env: 'core', program: 'openai_client.py', packages: ['openai'] },
  {
    name: 'AI SDK',
    env: 'node',
    program: 'ai-sdk.mjs',
    packages: ['ai', '@ai-sdk/openai', '@ai-sdk/openai-compatible'],
  },
  {
    name: 'Anthropic (Node)',
    env: 'node',
    program: 'anthropic.mjs',
    packages: ['@anthropic-ai/sdk'],
  },
  {
    name: 'LangChain',
    env: 'core',
    program: 'langchain_client.py',
    packages: ['langchain-openai'],
  },
  { name: 'LiteLLM', env: 'core', program: 'litellm_client.py', packages: ['litellm'] },
  {
    name: 'instructor',
    env: 'instructor',
    program: 'instructor_client.py',
    packages: ['instructor'],
  },
  { name: 'llm', env: 'core', program: 'llm_client.py', packages: ['llm'] },
  { name: 'lm-eval', env: 'core', program: 'lm_eval_client.py', packages: ['lm-eval'] },
  {
    name: 'Anthropic (Python)',
    env: 'wide',
    program: 'anthropic_client.py',
    packages: ['anthropic'],
    isWide: true,
  },
  {
    name: 'pydantic-ai',
    env: 'wide',
    program: 'pydantic_ai_client.py',
    packages: ['pydantic-ai-slim'],
    isWide: true,
  },
  {
    name: 'inspect-ai',
    env: 'wide',
    program: 'inspect_client.py',
    packages: ['inspect-ai'],
    isWide: true,
  },
]

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

const nodeFolder = join(cache, 'node')

function installClients(env) {
  const folder = join(cache, env)
  mkdirSync(folder, { recursive: true })
  if (env === 'node') {
    const files = ['package.json', 'package-lock.json'].map((name) => join(programs, name))
    installOnce(folder, files, () => {
      for (const file of files) cpSync(file, join(folder, file.slice(programs.length + 1)))
      mustRun('npm', ['ci', '--ignore-scripts'], { cwd: folder })
    })
    return
  }
  const lock = join(programs, 'python', `${env}.txt`)
  installOnce(folder, [lock], () => {
    mustRun(findPython(), ['-m', 'venv', folder])
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    mustRun(pythonOf(env), [...pip, '--no-deps', '-r', lock])
  })
}

function pythonOf(env) {
  return join(cache, env, 'bin', 'python')
}

function versionOf(env, name) {
  if (env === 'node') {
    const file = join(nodeFolder, 'node_modules', name, 'package.json')
    return JSON.parse(readFileSync(file, 'utf8')).version
  }
  const script = 'import sys, importlib.metadata as m; print(m.version(sys.argv[1]))'
  return String(spawnSync(pythonOf(env), ['-c', script, name]).stdout).trim()
}

/** The server on a free port, as users start it. */
async function startServer(place) {
  const folders = ['--adapters', join(place, 'adapters'), '--cache-dir', join(place, 'cache')]
  const main = join(root, 'dist', 'server', 'main.js')
  const args = [main, '--port', '0', '--log-level', 'info', '--max-batch', '4', ...folders]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const url = await new Promise((resolve, reject) => {
    child.once('exit', () => reject(new Error('the server did not start')))
    createInterface({ input: child.stderr }).on('line', (line) => {
      const said = line.startsWith('{') ? JSON.parse(line) : {}
      if (said.msg === 'ready') resolve(said.url)
    })
  })
  return { url, stop: () => child.kill('SIGTERM') }
}

/** What its program tells, and that it came to its end. */
function checkClient({ env, program }, url, place) {
  const home = mkdtempSync(join(place, 'home-'))
  const [command, path] =
    env === 'node'
      ? [process.execPath, join(nodeFolder, program)]
      : [pythonOf(env), join(programs, 'python', program)]
  const done = spawnSync(command, [path], {
    cwd: home,
    encoding: 'utf8',
    timeout: patienceMs,
    env: { ...process.env, ...quiet, HOME: home, DUTYFREE_URL: url, DUTYFREE_MODEL: model },
  })
  const checks = done.stdout
    .split('\n')
    .filter((line) => line.startsWith('{"check"'))
    .map((line) => JSON.parse(line))
  if (done.status === 0) return checks
  const why = done.error?.message ?? done.stderr.trim().split('\n').at(-1)?.slice(0, 300)
  return [...checks, { check: 'its program', ok: false, why }]
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
for (const env of new Set(chosen.map((client) => client.env))) installClients(env)
if (existsSync(nodeFolder)) cpSync(join(programs, 'node'), nodeFolder, { recursive: true })
const place = mkdtempSync(join(tmpdir(), 'dutyfree-clients-'))
const server = await startServer(place)
const results = []
try {
  for (const client of chosen) {
    const startMs = performance.now()
    const checks = checkClient(client, server.url, place)
    const versions = client.packages.map((name) => `${name} ${versionOf(client.env, name)}`)
    results.push({ name: client.name, isWide: client.isWide ?? false, versions, checks })
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
    console.log(`${client.name} (${versions.join(', ')}), ${seconds} s`)
    for (const { check, ok, why } of checks)
      console.log(`  ${ok ? '✓' : '✗'} ${check}${ok ? '' : `: ${why}`}`)
  }
} finally {
  server.stop()
  rmSync(place, { recursive: true, force: true })
}
if (only === undefined) writeClientsPage(results, model)
process.exit(results.every(({ checks }) => checks.every(({ ok }) => ok)) ? 0 : 1)
