// Finds k6 v2, or builds the pinned version into .cache/bin where Go is there.
//   node scripts/k6.mjs      prints its path; exit 1 when it cannot be had

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root } from './setup.mjs'

const k6Module = 'go.k6.io/k6/v2'
const k6Version = 'v2.2.0'
const binary = process.platform === 'win32' ? 'k6.exe' : 'k6'
const cached = join(root, '.cache', 'bin', binary)

export const howToGetK6 =
  'k6 v2 is missing: install Go 1.25 or newer and run `node scripts/k6.mjs`, ' +
  'or see https://grafana.com/docs/k6/latest/set-up/install-k6/'

const firstLine = (command, args) => {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', timeout: 30_000 })
  return status === 0 ? stdout.trim().split('\n')[0] : undefined
}

/** The path of a k6 v2 on the PATH, in Go's own folder, or built by this script; or undefined. */
export function findK6() {
  const goPath = process.env.GOPATH || join(homedir(), 'go')
  const places = ['k6', join(goPath, 'bin', binary), cached]
  return places.find((path) => /^k6(\.exe)? v2\./.test(firstLine(path, ['version']) ?? ''))
}

/** Finds or builds k6; undefined when there is neither k6 nor a Go that can build it. */
export function ensureK6() {
  const found = findK6()
  if (found !== undefined) return found
  const [, minor] = /go1\.(\d+)/.exec(firstLine('go', ['version']) ?? '') ?? []
  if (!(Number(minor) >= 25)) return undefined
  console.error(`dutyfree: building k6 ${k6Version} into .cache/bin (once; some minutes)`)
  return buildK6() === 0 ? findK6() : undefined
}

// A module of its own rather than `go install k6@version`: that also asks for the list of versions,
// which not every module proxy has for this path.
function buildK6() {
  const folder = mkdtempSync(join(tmpdir(), 'dutyfree-k6-'))
  try {
    mkdirSync(join(root, '.cache', 'bin'), { recursive: true })
    const goMod = ['module k6build', 'go 1.25', `require ${k6Module} ${k6Version}`]
    writeFileSync(join(folder, 'go.mod'), `${goMod.join('\n')}\n`)
    const go = spawnSync('go', ['build', '-mod=mod', '-o', cached, k6Module], {
      cwd: folder,
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    return go.status ?? 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const k6 = ensureK6()
  console.log(k6 ?? howToGetK6)
  process.exit(k6 === undefined ? 1 : 0)
}
