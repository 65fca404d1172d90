// Builds the Dockerfile as it is, by buildah and without a daemon, then runs the image with a read-only
// root as its own user, and asks it. Where no registry of images can be reached, the base is a stand-in:
// Debian from this machine's own apt mirror with Node and npm from npm, tagged with the base's name.
//   node scripts/image-ci.mjs     as root on Debian or Ubuntu; exit 1 when a step fails
// Elsewhere, and where the container may not mount or chroot, it says why it skips.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { askImage } from './image/ask.mjs'
import { buildStandIn } from './image/stand-in.mjs'
import { root } from './setup.mjs'

const tools = ['buildah', 'debootstrap']
const has = (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status === 0
const seconds = (startMs) => Number(((performance.now() - startMs) / 1000).toFixed(1))

/** What debootstrap, buildah's chroot isolation and the read-only run do; a container may lack each. */
const needed = [
  ['make a mount namespace', 'unshare', '--mount', 'true'],
  ['mount', 'unshare', '--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'],
  ['chroot', 'chroot', '/', 'true'],
  ['make devices', 'sh', '-c', 'f=$(mktemp -u) && mknod $f c 1 3 && : >$f && rm $f'],
]
const works = ([command, ...args]) => spawnSync(command, args, { timeout: 10_000 }).status === 0

/** Why the image can be neither built nor run here, or undefined. */
function obstacle() {
  if (process.platform !== 'linux') return `it needs Linux; this is ${process.platform}`
  if (process.getuid() !== 0) return 'it needs root: buildah isolates by chroot'
  if (!has('apt-get')) return 'it needs apt: the stand-in base is Debian or Ubuntu'
  const lacking = needed.find(([, ...command]) => !works(command))
  return lacking && `this container may not ${lacking[0]} (\`${lacking.slice(1).join(' ')}\` fails)`
}

/** Runs a command to its end; throws with its last lines when it fails. */
function must(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    timeout: 300_000,
    ...options,
  })
  if (error || status !== 0) {
    const end = `${stdout ?? ''}${stderr ?? ''}`.trim().split('\n').slice(-25).join('\n')
    throw new Error(`${command} ${args[0]} failed (${error?.message ?? status}):\n${end}`)
  }
  return stdout.trim()
}

/** buildah runs each step from a sealed copy of itself; a kernel that moves pages meanwhile refuses. */
const isPassing = /sealing memfd copy: Device or resource busy/
const mostTries = 3

function buildImage(buildah, tag) {
  const args = ['bud', '--format', 'docker', '--pull-never', '--network', 'host', '-t', tag, root]
  for (let numTries = 1; ; numTries++) {
    try {
      buildah(args)
      break
    } catch (error) {
      if (numTries === mostTries || !isPassing.test(error.message)) throw error
      console.error('image-ci: once more: the kernel was busy with the pages of buildah itself')
    }
  }
  return JSON.parse(buildah(['inspect', '--type', 'image', tag])).Docker.config
}

async function run() {
  const missing = tools.filter((name) => !has(name))
  if (missing.length > 0) {
    must('apt-get', ['update', '-q'])
    must('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...missing])
  }
  const folder = mkdtempSync(join(tmpdir(), 'dutyfree-image-ci-'))
  const store = ['--root', join(folder, 'store'), '--runroot', join(folder, 'run')]
  const env = { ...process.env, BUILDAH_ISOLATION: 'chroot', STORAGE_DRIVER: 'vfs' }
  const buildah = (args) => must('buildah', [...store, ...args], { env })
  const report = {}
  try {
    let startMs = performance.now()
    const base = /^FROM (\S+)/m.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'))[1]
    console.error(`image-ci: a stand-in for ${base}`)
    buildStandIn({ must, buildah, base, folder })
    report.standInSeconds = seconds(startMs)
    console.error(`image-ci: building the Dockerfile (stand-in: ${report.standInSeconds} s)`)
    startMs = performance.now()
    const config = buildImage(buildah, 'dutyfree:ci')
    report.buildSeconds = seconds(startMs)
    console.error(`image-ci: running it (built in ${report.buildSeconds} s)`)
    startMs = performance.now()
    const container = buildah(['from', '--pull-never', 'dutyfree:ci'])
    const rootFolder = buildah(['mount', container])
    Object.assign(report, await askImage({ config, rootFolder }))
    report.runSeconds = seconds(startMs)
    return report
  } finally {
    spawnSync('buildah', [...store, 'unmount', '--all'], { env })
    rmSync(folder, { recursive: true, force: true })
  }
}

const reason = obstacle()
if (reason !== undefined) {
  // What a container forbids cannot be installed, so DUTYFREE_REQUIRE_ALL does not ask for it.
  console.error(`image-ci: SKIPPED: the image was not built: ${reason}`)
  process.exit(0)
}
try {
  const report = await run()
  console.log(JSON.stringify(report, null, 2))
  const broken = Object.entries(report.checks).filter(([, holds]) => !holds)
  for (const [name] of broken) console.error(`image-ci: does not hold: ${name}`)
  process.exit(broken.length === 0 ? 0 : 1)
} catch (error) {
  console.error(`image-ci: ${error.message}`)
  process.exit(1)
}
