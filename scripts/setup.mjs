// Installs and builds what a fresh clone lacks, and says so. Only Node's own modules are used here.
//   node scripts/setup.mjs

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildKernels } from '../server/native/build.mjs'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
const env = {
  ...process.env,
  ONNXRUNTIME_NODE_INSTALL: process.env.ONNXRUNTIME_NODE_INSTALL ?? 'skip',
}

export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', env, ...options })
  if (result.error) throw result.error
  return result.status ?? 1
}

function mustRun(command, args, what) {
  if (run(command, args) !== 0) {
    console.error(`dutyfree: ${what} failed: ${command} ${args.join(' ')}`)
    process.exit(1)
  }
}

/** Installs the locked npm packages unless this very lock file was installed already. */
export function installNode() {
  const major = process.versions.node.split('.').map(Number)
  if (major[0] < 20 || (major[0] === 20 && major[1] < 19)) {
    console.error(`dutyfree needs Node 20.19 or newer; this is ${process.versions.node}`)
    process.exit(1)
  }
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8')
  const marker = join(root, 'node_modules', '.dutyfree-lock')
  if (existsSync(marker) && readFileSync(marker, 'utf8') === lock) return
  console.error('dutyfree: installing npm packages (once)')
  mustRun('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], 'npm ci')
  writeFileSync(marker, lock)
}

/** Compiles server, tests and benchmarks to dist/; tsc's incremental build makes a repeat cheap. */
export function build() {
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const code = run(process.execPath, [tsc, '-p', join(root, 'tsconfig.json')])
  const reason = buildKernels(join(root, 'dist', 'server', 'native', 'kernels.so'))
  if (reason !== null) {
    console.error(
      `dutyfree: on ONNX Runtime's own operators, slower, as ours were not built: ${reason}`,
    )
  }
  return code
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  installNode()
  process.exit(build())
}
