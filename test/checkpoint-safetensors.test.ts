// safetensors: the exact numbers of every float type, and a refusal for every rule of the format.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openSafetensors, safetensorsFromBuffer } from '../server/checkpoint/safetensors.ts'
import { findDuplicateKey } from '../server/checkpoint/safetensors-header.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { encodeSafetensors, joinSafetensors } from './support/tensor-files.ts'

const temp = createTempFolder()
const open = (bytes: Buffer) =>
  safetensorsFromBuffer(bytes, { code: 'invalid_adapter', label: 'test.safetensors' })
const bytesOf = (values: Uint16Array | Float64Array) => Buffer.from(values.buffer)
const inf = Number.POSITIVE_INFINITY

test('every half float becomes the number that IEEE 754 says', () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i)
  const file = open(
    encodeSafetensors({ x: { shape: [65536], dtype: 'F16', data: bytesOf(halves) } }),
  )
  const values = file.readFloat32('x')
  for (let half = 0; half < 65536; half++) {
    const sign = half & 0x8000 ? -1 : 1
    const exponent = (half >> 10) & 31
    const fraction = half & 1023
    const expected =
      exponent === 31
        ? fraction
          ? Number.NaN
          : sign * inf
        : exponent === 0
          ? sign * fraction * 2 ** -24
          : sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
    assert.ok(Object.is(values[half], expected), `half ${half}: ${values[half]} ≠ ${expected}`)
  }
})

test('bfloat16, float64 and float32 keep their values: subnormal, infinite and not a number', () => {
  const brain = Uint16Array.of(0x3f80, 0xc049, 0x0001, 0x8000, 0x7f80, 0xff80, 0x7fc0)
  const double = Float64Array.of(1 / 3, -0, 1e-45, 1e300)
  const single = Float32Array.of(0.1, -inf, 1e-45)
  const file = open(
    encodeSafetensors({
      brain: { shape: [7], dtype: 'BF16', data: bytesOf(brain) },
      double: { shape: [2, 2], dtype: 'F64', data: bytesOf(double) },
      single: { shape: [3], data: single },
    }),
  )
  assert.deepEqual(
    [...file.readFloat32('brain')],
    [1, -3.140625, 2 ** -133, -0, inf, -inf, Number.NaN],
  )
  assert.deepEqual([...file.readFloat32('double')], [Math.fround(1 / 3), -0, 2 ** -149, inf])
  assert.deepEqual([...file.readFloat32('single')], [...single])
})

test('scalars, empty tensors, padding, metadata and a tensor called __proto__ are fine', () => {
  const header =
    '{"__metadata__":{"format":"pt"},' +
    '"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},' +
    '"e":{"dtype":"F32","shape":[0,9],"data_offsets":[4,4]},' +
    '"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}   '
  const file = open(joinSafetensors(header, Buffer.from(Float32Array.of(5, 6).buffer)))
  assert.deepEqual([...file.tensors.keys()], ['s', 'e', '__proto__'])
  assert.equal(file.metadata.get('format'), 'pt')
  assert.deepEqual([...file.readFloat32('s')], [5])
  assert.deepEqual([...file.readFloat32('e')], [])
  assert.deepEqual([...file.readFloat32('__proto__')], [6])
  assert.equal(file.readBytes('s').length, 4)
})

test('a file is read by position, in chunks, and says when it became shorter', () => {
  const path = join(temp, 'large.safetensors')
  // More than one chunk of 8 MiB, at an odd offset.
  const halves = Uint16Array.from({ length: 5_000_001 }, (_, i) => i & 0x3fff)
  writeFileSync(
    path,
    encodeSafetensors({
      first: { shape: [3], data: Float32Array.of(1, 2, 3) },
      large: { shape: [5_000_001], dtype: 'BF16', data: bytesOf(halves) },
    }),
  )
  const file = openSafetensors(path, { code: 'invalid_checkpoint' })
  const values = file.readFloat32('large')
  const words = new Uint32Array(values.buffer)
  assert.ok(words.every((word, i) => word === (i & 0x3fff) << 16))
  writeFileSync(path, 'short')
  assert.throws(() => file.readFloat32('large'), { code: 'invalid_checkpoint' })
  file.close()
  file.close()
  assert.throws(() => file.readFloat32('first'), /closed/)
})

test('a missing file and a missing tensor are named', () => {
  assert.throws(() => openSafetensors(join(temp, 'none'), { code: 'invalid_checkpoint' }), {
    code: 'invalid_checkpoint',
    message: /none: it cannot be opened/,
  })
  assert.throws(
    () => open(joinSafetensors('{}', Buffer.alloc(0))).readFloat32('x'),
    /no tensor "x"/,
  )
})

const entry = (fields: object) =>
  JSON.stringify({ x: { dtype: 'F32', shape: [1], data_offsets: [0, 4], ...fields } })
const wrong: readonly (readonly [string, Buffer, RegExp])[] = [
  ['an empty file', Buffer.alloc(0), /fewer than 8/],
  ['7 bytes', Buffer.alloc(7), /fewer than 8/],
  ['a header of 2^64 − 1 bytes', joinSafetensors('{}', Buffer.alloc(0), 2n ** 64n - 1n), /at most/],
  ['a header one byte too long', joinSafetensors('{}', Buffer.alloc(0), 3n), /has only 10/],
  ['leading white space', joinSafetensors(' {}', Buffer.alloc(0)), /begin with \{/],
  ['an empty header', joinSafetensors('', Buffer.alloc(0)), /begin with \{/],
  ['a list', joinSafetensors('[]', Buffer.alloc(0)), /begin with \{/],
  ['broken JSON', joinSafetensors('{"a"}', Buffer.alloc(0)), /not JSON/],
  ['no UTF-8', joinLatin1('{"\xff":1}'), /not UTF-8/],
  ['metadata with a number', joinSafetensors('{"__metadata__":{"a":1}}', Buffer.alloc(0)), /"a"/],
  ['metadata that is a list', joinSafetensors('{"__metadata__":[]}', Buffer.alloc(0)), /object/],
  ['an entry that is null', joinSafetensors('{"x":null}', Buffer.alloc(0)), /not an object/],
  ['a negative size', joinSafetensors(entry({ shape: [-1] }), Buffer.alloc(4)), /whole numbers/],
  ['half a size', joinSafetensors(entry({ shape: [0.5] }), Buffer.alloc(4)), /whole numbers/],
  ['a size as text', joinSafetensors(entry({ shape: ['1'] }), Buffer.alloc(4)), /whole numbers/],
  ['three offsets', joinSafetensors(entry({ data_offsets: [0, 4, 4] }), Buffer.alloc(4)), /pair/],
  [
    'an unsafe offset',
    joinSafetensors(entry({ data_offsets: [0, 2 ** 60] }), Buffer.alloc(4)),
    /pair/,
  ],
  [
    'an unknown field',
    joinSafetensors(entry({ more: 1 }), Buffer.alloc(4)),
    /unknown field "more"/,
  ],
  [
    'a wrong span',
    joinSafetensors(entry({ data_offsets: [0, 3] }), Buffer.alloc(3)),
    /needs 4 bytes/,
  ],
  ['half a byte', joinSafetensors(entry({ dtype: 'F4' }), Buffer.alloc(4)), /whole bytes/],
  ['a late begin', joinSafetensors(entry({ data_offsets: [4, 8] }), Buffer.alloc(8)), /hole of 4/],
  ['a short file', joinSafetensors(entry({}), Buffer.alloc(3)), /outside the file/],
  ['trailing bytes', joinSafetensors(entry({}), Buffer.alloc(5)), /1 bytes follow/],
]

function joinLatin1(header: string): Buffer {
  const bytes = Buffer.from(header, 'latin1')
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(bytes.length))
  return Buffer.concat([prefix, bytes])
}

for (const [title, bytes, says] of wrong) {
  test(`refused: ${title}`, () => {
    assert.throws(() => open(bytes), { code: 'invalid_adapter', message: says })
    const path = join(temp, 'wrong.safetensors')
    writeFileSync(path, bytes)
    assert.throws(() => openSafetensors(path, { code: 'invalid_checkpoint' }), {
      code: 'invalid_checkpoint',
      message: says,
    })
  })
}

test('keys are compared as they read, per object, and values are not keys', () => {
  assert.equal(findDuplicateKey('{"a":1,"\\u0061":2}'), 'a')
  assert.equal(findDuplicateKey('{"a":{"b":1},"c":{"b":1}}'), null)
  assert.equal(findDuplicateKey('{"a":[{"b":1},{"b":1}],"b":"a"}'), null)
  assert.equal(findDuplicateKey('{"a":"\\"b\\":","b" :1, "b": 2}'), 'b')
})
