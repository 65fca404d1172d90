// Installs the engines that ours is compared with: node-llama-cpp into bench/peers, OpenVINO into an
// environment of its own under .cache, and nothing anywhere else.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { findPython } from './python.mjs'
import { root, run } from './setup.mjs'

/** Where node-llama-cpp is installed: what the benchmark compares with and the server never needs. */
export const peers = join(root, 'bench', 'peers')

/**
 * The locked node-llama-cpp and its library for this machine's processor, not those for GPUs. False
 * where it cannot be installed.
 */
export function installPeers() {
  const { dependencies } = JSON.parse(readFileSync(join(peers, 'package.json'), 'utf8'))
  const version = dependencies['node-llama-cpp']
  const library = `@node-llama-cpp/${libraryName()}`
  const require = createRequire(join(peers, 'package.json'))
  const isThere = [library, 'node-llama-cpp'].every((name) => {
    try {
      require.resolve(name)
      return true
    } catch {
      return false
    }
  })
  if (isThere) return true
  console.error('dutyfree: installing node-llama-cpp into bench/peers (once)')
  const flags = ['--no-save', '--omit=optional', '--ignore-scripts', '--loglevel=error']
  const code = run('npm', ['install', ...flags, `${library}@${version}`], { cwd: peers })
  if (code !== 0) console.error('dutyfree: that failed; llama.cpp is left out')
  return code === 0
}

function libraryName() {
  const { platform, arch } = process
  if (platform === 'darwin') return arch === 'arm64' ? 'mac-arm64-metal' : 'mac-x64'
  return `${platform === 'win32' ? 'win' : 'linux'}-${arch}`
}

const openvinoVersions = ['openvino==2026.4.1', 'numpy==2.4.6']
const venv = join(root, '.cache', 'openvino')
const openvinoPython = join(venv, 'bin', 'python')

/** Installs once, 280 MB. False where it cannot be installed. */
export function installOpenvino() {
  const marker = join(venv, '.dutyfree-versions')
  const wanted = openvinoVersions.join('\n')
  if (existsSync(marker) && readFileSync(marker, 'utf8') === wanted) return true
  console.error('dutyfree: installing OpenVINO into .cache/openvino (280 MB, once)')
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
  const isThere =
    run(findPython(), ['-m', 'venv', venv]) === 0 &&
    run(openvinoPython, [...pip, ...openvinoVersions]) === 0
  if (isThere) writeFileSync(marker, wanted)
  else console.error('dutyfree: that failed; OpenVINO is left out')
  return isThere
}
