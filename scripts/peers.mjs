// Installs the engine that ours is compared with, into bench/peers and nowhere else.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
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
