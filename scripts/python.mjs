// Runs the trainer in its own virtual environment, made on first use.
//   npm run train-adapter -- --output runs/mine      (node scripts/python.mjs train-adapter …)

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root, run } from './setup.mjs'

const venv = join(root, 'training', '.venv')
const isWindows = process.platform === 'win32'

/** The environment's own interpreter. */
export const python = join(venv, ...(isWindows ? ['Scripts', 'python.exe'] : ['bin', 'python']))

export function findPython() {
  const names = [
    process.env.PYTHON,
    'python3',
    'python3.14',
    'python3.13',
    'python3.12',
    'python3.11',
    'python',
  ]
  for (const name of names.filter(Boolean)) {
    const probe = spawnSync(name, ['-c', 'import sys; print(sys.version_info >= (3, 11))'])
    if (probe.status === 0 && String(probe.stdout).trim() === 'True') return name
  }
  console.error('dutyfree: the trainer needs Python 3.11 or newer on the PATH (or named by PYTHON)')
  process.exit(1)
}

function mustRun(command, args, remedy) {
  if (run(command, args) === 0) return
  console.error(`dutyfree: failed: ${command} ${args.join(' ')}`)
  if (remedy) console.error(`dutyfree: ${remedy}`)
  process.exit(1)
}

// PyPI's torch is built for NVIDIA cards and loads most of their libraries whatever it computes on.
// These two it loads on a card only: 0.9 of 5.2 GB.
const cardOnly = ['triton', 'nvidia-cusolver']

/** Whether nothing here could run what `cardOnly` is for; the lock's own platform, Linux on x86-64. */
function hasNoCard() {
  const isLocked = process.platform === 'linux' && process.arch === 'x64'
  return isLocked && !existsSync('/dev/nvidiactl')
}

/** pip's arguments: the lock itself, exactly, where no card is; else what it resolves within it. */
function packagesToInstall(lean) {
  const training = join(root, 'training')
  const lock = join(training, 'constraints.txt')
  if (!lean) return [['-c', lock, '-e', `${training}[dev]`]]
  const lines = readFileSync(lock, 'utf8').split('\n')
  const kept = join(venv, 'requirements.txt')
  const isKept = (line) => !cardOnly.includes(line.split('==')[0])
  writeFileSync(kept, lines.filter(isKept).join('\n'))
  return [
    ['--no-deps', '-r', kept],
    ['--no-deps', '-e', training],
  ]
}

/** Creates training/.venv and installs the locked packages unless these very ones are there. */
export function installPython() {
  const files = ['pyproject.toml', 'constraints.txt'].map((name) => join(root, 'training', name))
  const lean = hasNoCard()
  const hash = createHash('sha256').update(root).update(`lean: ${lean}`)
  for (const file of files) hash.update(readFileSync(file))
  const wanted = hash.digest('hex')
  const marker = join(venv, '.dutyfree-lock')
  if (existsSync(marker) && existsSync(python) && readFileSync(marker, 'utf8') === wanted) return
  console.error('dutyfree: installing Python packages into training/.venv (once; a few minutes)')
  if (!existsSync(python)) {
    mustRun(findPython(), ['-m', 'venv', venv], 'on Debian and Ubuntu: apt install python3-venv')
  }
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
  for (const packages of packagesToInstall(lean)) mustRun(python, [...pip, ...packages])
  writeFileSync(marker, wanted)
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  installPython()
  const [command, ...rest] = process.argv.slice(2)
  const isBench = command === 'train-bench' // training/speed, which no installation needs
  const args = isBench ? ['-m', 'speed', ...rest] : ['-m', 'trainer', ...process.argv.slice(2)]
  const env = { ...process.env, ...(isBench && { PYTHONPATH: join(root, 'training') }) }
  process.exit(run(python, args, { env }))
}
