// Values, shapes and metadata of GGUF files equal those of the Python package gguf, bit for bit. The
// files are made when the test runs: random blocks of every type that is read, with scales of any
// finite half float. A real file besides:
//   DUTYFREE_GGUF=model.gguf node --test dist/test/gguf-values.test.js

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { blockFormats } from '../server/gguf/block-formats.ts'
import { readableTypes } from '../server/gguf/dequantize.ts'
import { type GgufFile, openGguf } from '../server/gguf/gguf-file.ts'
import { lacksPython, python } from './support/python.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

interface Expected {
  readonly metadata: Record<string, unknown>
  readonly tensors: Record<string, { readonly type: string; readonly shape: readonly number[] }>
  readonly formats: Record<string, object>
}

const temp = createTempFolder()
const script = join(root, 'test', 'support', 'gguf_reference.py')
const realFile = process.env.DUTYFREE_GGUF

/** Bytes are compared, so that the signs of zeros count. */
const bitsOf = (values: Float32Array) =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength)

function withFile(name: string, use: (file: GgufFile) => void): void {
  const file = openGguf(join(temp, name))
  try {
    use(file)
  } finally {
    file.close()
  }
}

describe('values of GGUF files', { skip: lacksPython }, () => {
  let expected: Expected
  const bitsExpected = (name: string) => readFileSync(join(temp, `${name}.f32`))

  before(() => {
    execFileSync(python, [script, temp])
    expected = JSON.parse(readFileSync(join(temp, 'expected.json'), 'utf8'))
  })

  it('the files hold every type that is read', () => {
    const types = new Set(Object.values(expected.tensors).map(({ type }) => type))
    assert.deepEqual([...types].sort(), [...readableTypes].sort())
  })

  it('every type of the package has the same number, values and bytes here', () => {
    // The package counts Q8_1 with float32 scales; ggml has had half floats there since 2023.
    const { Q8_1, ...others } = blockFormats
    const { Q8_1: _, ...known } = expected.formats
    assert.deepEqual(others, known)
    assert.deepEqual(Q8_1, { id: 9, values: 32, bytes: 36 })
  })

  for (const name of ['whole.gguf', 'split-00001-of-00003.gguf', 'split-00003-of-00003.gguf']) {
    it(`${name}: every tensor has the type, the shape and the bits of the package`, () => {
      withFile(name, (file) => {
        assert.deepEqual(Object.fromEntries(file.tensors), expected.tensors)
        for (const tensor of file.tensors.keys()) {
          assert.ok(bitsOf(file.readFloat32(tensor)).equals(bitsExpected(tensor)), tensor)
        }
      })
    })
  }

  it('a part of a split file opens all of them in order', () => {
    const paths = [1, 2, 3].map((part) => join(temp, `split-0000${part}-of-00003.gguf`))
    withFile('split-00002-of-00003.gguf', (file) => assert.deepEqual(file.paths, paths))
    withFile('whole.gguf', (file) => assert.deepEqual(file.paths, [join(temp, 'whole.gguf')]))
  })

  it('rows are those of the whole tensor', () => {
    withFile('whole.gguf', (file) => {
      for (const [name, { shape }] of file.tensors) {
        const [rows] = shape as [number]
        const rowBytes = bitsExpected(name).length / rows
        const [first, count] = rows > 1 ? [1, rows - 1] : [0, 1]
        const bits = bitsOf(file.readFloat32Rows(name, first, count))
        assert.ok(bits.equals(bitsExpected(name).subarray(first * rowBytes)), name)
      }
      assert.equal(file.readFloat32Rows('Q4_K.large', 1500, 0).length, 0)
    })
  })

  it('stored rows are the bytes of the file', () => {
    withFile('whole.gguf', (file) => {
      const whole = readFileSync(join(temp, 'whole.gguf'))
      const rows = file.readStoredRows('Q6_K.plain', 0, 3)
      assert.equal(rows.length, 3 * 5 * 2 * 210)
      assert.ok(whole.includes(Buffer.from(rows)))
      const rowBytes = 5 * 2 * 210
      const second = file.readStoredRows('Q6_K.plain', 1, 1)
      assert.deepEqual(second, rows.subarray(rowBytes, 2 * rowBytes))
    })
  })

  it('metadata of every type has its value', () => {
    withFile('whole.gguf', ({ metadata }) => {
      for (const [kind, value] of Object.entries(expected.metadata)) {
        assert.deepEqual(metadata.get(`test.${kind}`), value, kind)
      }
      assert.equal(metadata.get('general.architecture'), 'test')
    })
  })

  it('a real file has the values of the package', { skip: !realFile && 'DUTYFREE_GGUF' }, (t) => {
    const digests = JSON.parse(
      execFileSync(python, [script, '--digests', realFile!], { encoding: 'utf8' }),
    )
    const file = openGguf(realFile!)
    let micros = 0
    let bytes = 0
    const own = [...file.tensors].map(([name, { type, shape }]) => {
      const before = process.cpuUsage()
      const values = bitsOf(file.readFloat32(name))
      const { user, system } = process.cpuUsage(before)
      micros += user + system
      bytes += values.length
      return [name, [type, shape, createHash('sha256').update(values).digest('hex')]]
    })
    file.close()
    t.diagnostic(`${own.length} tensors, ${(bytes / micros).toFixed(0)} MB a CPU second`)
    assert.deepEqual(Object.fromEntries(own), digests)
  })
})
