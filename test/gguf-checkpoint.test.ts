// A GGUF file where a checkpoint folder goes: the same weights give the same logits, bit for bit; an
// export gives them back; adapters know both by one digest.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import { expectedTensors } from '../server/checkpoint/checkpoint-tensors.ts'
import { attestedDigest } from '../server/checkpoint/gguf-note.ts'
import { convertCheckpoint } from '../server/conversion/convert.ts'
import { exportFolder } from '../server/export/export-folder.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { lacksPython, python } from './support/python.ts'
import { writeRandomCheckpoint } from './support/random-checkpoint.ts'
import { root } from './support/root.ts'
import { openServedModel } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const families = ['llama', 'qwen2'] as const
const folderOf = (family: string) => join(temp, family)
const fileOf = (family: string) => join(temp, family, 'model.gguf')
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')

async function digestOf(dir: string, notices: string[] = []): Promise<string> {
  const checkpoint = openCheckpoint(dir)
  const { maxPosition: maxContext } = checkpoint.config
  const cacheDir = join(temp, 'cache')
  const options = {
    dir,
    checkpoint,
    maxContext,
    format: { kind: 'fp32' },
    sites: [],
    cacheDir,
  } as const
  const onNotice = (message: string) => void notices.push(message)
  const { baseDigest } = await convertCheckpoint({ ...options, onNotice })
  checkpoint.close()
  return baseDigest
}

async function logitsOf(checkpoint: string): Promise<Float32Array[]> {
  const adapters = join(temp, 'adapters')
  mkdirSync(adapters, { recursive: true })
  const model = await openServedModel({ checkpoint, adapters, rows: 1, capacity: 64 })
  try {
    const tokens = Array.from({ length: 40 }, (_, i) => (i * 37) % 300)
    const first = await model.runner.prefill({ row: 0, tokens, past: 0, components: [] })
    const next = await model.runner.decode([{ token: 7, past: tokens.length, components: [] }])
    return [first.slice(), next.slice()]
  } finally {
    model.close()
  }
}

describe('a GGUF file as a checkpoint', { skip: lacksPython }, () => {
  before(() => {
    for (const family of families) {
      writeRandomCheckpoint(folderOf(family), family, 5, { vocab_size: 320 })
    }
    const script = join(root, 'test/support/gguf_checkpoint.py')
    execFileSync(python, [script, 'models', ...families.map(folderOf)])
  })

  for (const family of families) {
    it(`${family}: the configuration and every tensor are those of the folder`, () => {
      const [file, folder] = [openCheckpoint(fileOf(family)), openCheckpoint(folderOf(family))]
      assert.deepEqual(file.config, folder.config)
      assert.equal(file.numParameters, folder.numParameters)
      for (const [name, [rows = 0]] of expectedTensors(folder.config)) {
        assert.deepEqual(file.tensors.read(name), folder.tensors.read(name), name)
        const [first, count] = [Math.floor(rows / 3), Math.ceil(rows / 2)]
        assert.deepEqual(
          file.tensors.readRows(name, first, count),
          folder.tensors.readRows(name, first, count),
          name,
        )
      }
      file.close()
      folder.close()
    })

    it(`${family}: logits equal the folder's, bit for bit`, async () => {
      const [file, folder] = [await logitsOf(fileOf(family)), await logitsOf(folderOf(family))]
      assert.ok(folder[0]!.some((logit) => Math.abs(logit) > 0.5))
      assert.deepEqual(file, folder)
    })

    it(`${family}: exported as float32, every tensor and every token is back`, async () => {
      const output = join(temp, `${family}-float32`)
      await exportFolder({ model: fileOf(family), output, type: 'float32' })
      const [exported, folder] = [openCheckpoint(output), openCheckpoint(folderOf(family))]
      assert.deepEqual(exported.config, folder.config)
      for (const name of expectedTensors(folder.config).keys()) {
        assert.deepEqual(exported.tensors.read(name), folder.tensors.read(name), name)
      }
      assert.deepEqual(exported.generation, openCheckpoint(fileOf(family)).generation)
      const [ours, theirs] = [loadTokenizer(output), loadTokenizer(fileOf(family))]
      for (const text of ['def main() -> None:', '<think>é 12345</think><|im_end|>']) {
        assert.deepEqual(ours.encode(text), theirs.encode(text))
      }
    })
  }

  it('adapters know the file and its export by one digest; other weights beside the note by theirs', async () => {
    const expected = sha256(fileOf('llama'))
    assert.equal(await digestOf(fileOf('llama')), expected)
    const output = join(temp, 'attested')
    const note = await exportFolder({ model: fileOf('llama'), output, type: 'float16' })
    assert.equal(note.base_digest, expected)
    const weights = join(output, 'model.safetensors')
    assert.equal(note.weights_digest, sha256(weights))
    assert.equal(await digestOf(output), expected)

    const bytes = readFileSync(weights)
    bytes[bytes.length - 1]! ^= 1
    writeFileSync(weights, bytes)
    const notices: string[] = []
    assert.equal(await digestOf(output, notices), sha256(weights))
    assert.match(notices.join(), /gguf\.json was written for other weights/)
  })

  it('a split file is read from all its parts, and named by all of them', async () => {
    const dir = join(temp, 'split')
    cpSync(folderOf('llama'), dir, { recursive: true })
    execFileSync(python, [join(root, 'test/support/gguf_checkpoint.py'), 'split', dir])
    const parts = readdirSync(dir).filter((name) => /-of-\d{5}\.gguf$/.test(name))
    assert.equal(parts.length, 3)
    const path = join(dir, parts[0]!)
    const hashes = parts.map((part) => sha256(join(dir, part)))
    assert.equal(await digestOf(path), createHash('sha256').update(hashes.join('')).digest('hex'))
    const [split, folder] = [openCheckpoint(path), openCheckpoint(folderOf('llama'))]
    for (const name of expectedTensors(folder.config).keys()) {
      assert.deepEqual(split.tensors.read(name), folder.tensors.read(name), name)
    }
    assert.equal(
      loadTokenizer(path).idOf('<|im_end|>'),
      loadTokenizer(fileOf('llama')).idOf('<|im_end|>'),
    )
    split.close()
    folder.close()
  })

  it('a note that is none is refused', () => {
    const dir = join(temp, 'odd-note')
    mkdirSync(dir)
    writeFileSync(join(dir, 'gguf.json'), '{"base_digest": "x"}')
    assert.throws(() => attestedDigest(dir, 'a'.repeat(64), () => {}), {
      code: 'invalid_checkpoint',
      message: /^gguf\.json: source: /,
    })
  })

  it('in 16 bits every tensor is there, each number rounded', async () => {
    const folder = openCheckpoint(folderOf('qwen2'))
    for (const [type, error] of [
      ['float16', 2 ** -11],
      ['bfloat16', 2 ** -8],
    ] as const) {
      const output = join(temp, `rounded-${type}`)
      await exportFolder({ model: fileOf('qwen2'), output, type })
      const exported = openCheckpoint(output)
      for (const name of expectedTensors(folder.config).keys()) {
        const exact = folder.tensors.read(name)
        const isNear = (value: number, i: number) =>
          Math.abs(value - exact[i]!) <= error * Math.abs(exact[i]!) + 2 ** -25
        assert.ok(exported.tensors.read(name).every(isNear), name)
      }
      exported.close()
    }
    folder.close()
  })

  it('an export leaves what is there alone, and nothing behind when it fails', async () => {
    const output = join(temp, 'taken')
    mkdirSync(output)
    writeFileSync(join(output, 'mine.txt'), 'mine')
    const options = { model: fileOf('llama'), output, type: 'float32' } as const
    await assert.rejects(exportFolder(options), {
      code: 'invalid_config',
      message: /does: remove it/,
    })
    assert.deepEqual(readdirSync(output), ['mine.txt'])

    const spoilt = join(temp, 'spoilt.gguf')
    const bytes = readFileSync(fileOf('llama'))
    bytes.writeUInt32LE(0x7fc00000, bytes.length - 4)
    writeFileSync(spoilt, bytes)
    const folder = join(temp, 'spoilt')
    await assert.rejects(exportFolder({ ...options, model: spoilt, output: folder }), {
      code: 'invalid_checkpoint',
      message: /every weight must be a finite number/,
    })
    assert.deepEqual(
      readdirSync(temp).filter((name) => name.includes('partial')),
      [],
    )
  })

  it('the command names its flags, and what is wrong with one', () => {
    const run = (...args: string[]) =>
      spawnSync(process.execPath, [join(root, 'dist/server/export-model.js'), ...args])
    assert.match(run('--help').stdout.toString(), /--dtype <type>/)
    const missing = run('--model', 'x.gguf', '--output', 'y')
    assert.deepEqual(
      [missing.status, missing.stderr.toString()],
      [1, 'dutyfree: --model must be a GGUF file that exists; got "x.gguf"\n'],
    )
  })

  it('what follows the tensors changes the digest, as any byte does', async () => {
    const dir = join(temp, 'longer')
    mkdirSync(dir)
    const path = join(dir, 'model.gguf')
    writeFileSync(path, readFileSync(fileOf('qwen2')))
    appendFileSync(path, 'more')
    assert.equal(await digestOf(path), sha256(path))
  })
})
