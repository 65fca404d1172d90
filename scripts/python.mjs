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

function findPython() {
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

/** Creates training/.venv and installs the locked packages unless these very ones are there. */
export function installPython() {
  const files = ['pyproject.toml', 'constraints.txt'].map((name) => join(root, 'training', name))
  const hash = createHash('sha256').update(root)
  for (const file of files) hash.update(readFileSync(file))
  const wanted = hash.digest('hex')
  const marker = join(venv, '.dutyfree-lock')
  if (existsSync(marker) && existsSync(python) && readFileSync(marker, 'utf8') === wanted) return
  console.error('dutyfree: installing Python packages into training/.venv (once; a few minutes)')
  if (!existsSync(python)) {
    mustRun(findPython(), ['-m', 'venv', venv], 'on Debian and Ubuntu: apt install python3-venv')
  }
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
  const constraints = join(root, 'training', 'constraints.txt')
  mustRun(python, [...pip, '-c', constraints, '-e', `${join(root, 'training')}[dev]`])
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
