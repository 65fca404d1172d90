// GGUF files that are broken, cut or made to do harm: each is refused with its own message, before
// anything is read outside the file or allocated by a number that the file merely claims.

import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { ServerError } from '../server/errors.ts'
import { type GgufFile, openGguf } from '../server/gguf/gguf-file.ts'
import {
  type FileParts,
  ggufBytes,
  info,
  kinds,
  list,
  listKind,
  pair,
  stringKind,
  text,
  u8,
  u16,
  u32,
  u64,
} from './support/gguf-bytes.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const path = join(temp, 'x.gguf')

function open(bytes: Buffer): GgufFile {
  writeFileSync(path, bytes)
  return openGguf(path)
}

/** Opens, uses and closes a file that is right. */
function read<T>(bytes: Buffer, use: (file: GgufFile) => T): T {
  const file = open(bytes)
  try {
    return use(file)
  } finally {
    file.close()
  }
}

function refusalOf(act: () => void): string {
  try {
    act()
  } catch (error) {
    assert.ok(error instanceof ServerError, `${error}`)
    return `${error.code} ${error.message}`
  }
  return 'none'
}

const onePair = (kind: number, value: Buffer): FileParts => ({ pairs: [pair('k', kind, value)] })
const oneInfo = (parts: Parameters<typeof info>[0]): FileParts => ({ infos: [info(parts)] })
const alignment = (value: number): FileParts => ({
  pairs: [pair('general.alignment', kinds.uint32, u32(value))],
})
const huge = 2n ** 64n - 1n
const whole = ggufBytes()

const header: readonly (readonly [string, Buffer | FileParts, string])[] = [
  ['no bytes', Buffer.alloc(0), "the file has 0 bytes, fewer than GGUF's first 24"],
  ['23 bytes', whole.subarray(0, 23), "the file has 23 bytes, fewer than GGUF's first 24"],
  ['another magic', { magic: 'GGML' }, 'it does not begin with "GGUF"'],
  [
    'a cut in the infos',
    whole.subarray(0, 60),
    'the header ends outside the file, which has 60 bytes; download it again',
  ],
  [
    'too many tensors for the file',
    { numTensors: 5 },
    'the header counts 5 tensors, more than the file can hold',
  ],
  [
    'tensors near 2^64',
    { numTensors: huge },
    `the header counts ${huge} tensors, more than the file can hold`,
  ],
  [
    'more tensors than are accepted',
    { numTensors: 65_537, data: Buffer.alloc(32 * 65_537) },
    'the header counts 65537 tensors; at most 65536 are accepted',
  ],
  [
    'pairs near 2^64',
    { numPairs: huge },
    `the header counts ${huge} metadata pairs, more than the file can hold`,
  ],
  [
    'more pairs than are accepted',
    { numPairs: 65_537, data: Buffer.alloc(13 * 65_537) },
    'the header counts 65537 metadata pairs; at most 65536 are accepted',
  ],
]

const metadata: typeof header = [
  [
    'a key longer than the file',
    { pairs: [Buffer.concat([text('k', huge), u32(0)])] },
    `the key of metadata pair 0 says it has ${huge} bytes; only 96 are left`,
  ],
  [
    'a key longer than keys are',
    { pairs: [pair('k'.repeat(65_536), 0, u8(1))] },
    'the key of metadata pair 0 has 65536 bytes; at most 65535 are accepted',
  ],
  [
    'a key that is not UTF-8',
    { pairs: [pair(Buffer.of(0xc3, 0x28), 0, u8(1))] },
    'the key of metadata pair 0 is not UTF-8',
  ],
  [
    'a key twice',
    { pairs: [pair('k', 0, u8(1)), pair('k', 0, u8(2))] },
    'the header has the key "k" twice',
  ],
  ['an unknown type', onePair(13, u32(0)), 'the value of "k" has the unknown type 13'],
  [
    'a text longer than the file',
    onePair(stringKind, text('', 2n ** 63n)),
    `the value of "k" says it has ${2n ** 63n} bytes; only 83 are left`,
  ],
  [
    'a text that is not UTF-8',
    onePair(stringKind, text(Buffer.of(0xff))),
    'the value of "k" is not UTF-8',
  ],
  ['a bool of 2', onePair(kinds.bool, u8(2)), 'the value of "k" is a bool of 2; it must be 0 or 1'],
  [
    'a bool of 255 in a list',
    onePair(listKind, list(kinds.bool, 2, u8(1), u8(255))),
    'an element of the value of "k" is a bool of 255; it must be 0 or 1',
  ],
  [
    'a list of lists',
    onePair(listKind, list(listKind, 1, list(0, 1, u8(1)))),
    'the value of "k" is a list of lists, which is not accepted',
  ],
  [
    'a list of an unknown type',
    onePair(listKind, list(99, 0)),
    'the value of "k" is a list of the unknown type 99',
  ],
  [
    'a list longer than the file',
    onePair(listKind, list(kinds.uint32, huge)),
    `the value of "k" says it has ${huge} elements, more than the file can hold`,
  ],
  [
    'a list of texts longer than the file',
    onePair(listKind, list(stringKind, 12)),
    'the value of "k" says it has 12 elements, more than the file can hold',
  ],
  [
    'lists with too many elements together',
    {
      pairs: [
        pair('k', listKind, list(0, 2 ** 21, Buffer.alloc(2 ** 21))),
        pair('l', listKind, list(0, 2 ** 21 + 1, Buffer.alloc(2 ** 21 + 1))),
      ],
    },
    'the lists of the header have more than 4194304 elements, the most accepted',
  ],
  [
    'an alignment of another type',
    { pairs: [pair('general.alignment', 10, u64(32))] },
    'general.alignment is not a uint32',
  ],
  ['an alignment of 0', alignment(0), 'general.alignment is 0; it must be a power of two'],
  ['an alignment of 48', alignment(48), 'general.alignment is 48; it must be a power of two'],
]

const outside = 'and ends outside the file, which has'
const tensors: typeof header = [
  [
    'a name of 65 bytes',
    oneInfo({ name: 'n'.repeat(65) }),
    'the name of tensor 0 has 65 bytes; at most 64 are accepted',
  ],
  [
    'a name that is not UTF-8',
    oneInfo({ name: Buffer.of(0x80) }),
    'the name of tensor 0 is not UTF-8',
  ],
  ['a name twice', { infos: [info(), info()] }, 'the header has the tensor "a" twice'],
  ['no dimensions', oneInfo({ dims: [] }), 'tensor "a": it has 0 dimensions; 1 to 4 are accepted'],
  [
    'five dimensions',
    oneInfo({ dims: [1, 1, 1, 1, 1] }),
    'tensor "a": it has 5 dimensions; 1 to 4 are accepted',
  ],
  [
    'dimensions without end',
    oneInfo({ numDims: 2 ** 32 - 1 }),
    'tensor "a": it has 4294967295 dimensions; 1 to 4 are accepted',
  ],
  ['a dimension of 0', oneInfo({ dims: [4, 0] }), 'tensor "a": a dimension is 0'],
  [
    'a dimension near 2^64',
    oneInfo({ dims: [huge] }),
    'tensor "a": its number of elements overflows',
  ],
  [
    'a product that wraps to a small one in 64 bits',
    oneInfo({ dims: [2n ** 33n, 2n ** 31n] }),
    'tensor "a": its number of elements overflows',
  ],
  [
    'a size in bytes that overflows',
    oneInfo({ dims: [2n ** 52n] }),
    'tensor "a": its size in bytes overflows',
  ],
  [
    'rows that end within a block',
    oneInfo({ dims: [48, 2], type: 2 }),
    'tensor "a": its rows have 48 values; Q4_0 needs a multiple of 32',
  ],
  [
    'an offset that is not aligned',
    oneInfo({ offset: 4 }),
    'tensor "a": its offset 4 is not a multiple of the alignment 32',
  ],
  [
    'an offset beyond the file',
    oneInfo({ offset: 64 }),
    `tensor "a": it has 32 bytes from 160 on, ${outside} 128; download it again`,
  ],
  [
    'an offset near 2^64',
    oneInfo({ offset: 2n ** 64n - 32n }),
    `tensor "a": it has 32 bytes from ${2n ** 64n + 64n} on, ${outside} 128; download it again`,
  ],
  [
    'data that is cut',
    whole.subarray(0, 127),
    `tensor "a": it has 32 bytes from 96 on, ${outside} 127; download it again`,
  ],
  [
    'an unknown type beyond the file',
    oneInfo({ type: 77, offset: 32 }),
    `tensor "a": it has some bytes from 128 on, ${outside} 128; download it again`,
  ],
  [
    'two tensors in one place',
    { infos: [info(), info({ name: 'b' })] },
    'tensor "b": it overlaps the tensor before it',
  ],
  [
    'a tensor that begins within another',
    {
      infos: [info({ name: 'b', offset: 32 }), info({ dims: [4, 4] })],
      data: Buffer.alloc(64),
    },
    'tensor "b": it overlaps the tensor before it',
  ],
]

describe('hostile GGUF files', () => {
  for (const [title, file, message] of [...header, ...metadata, ...tensors]) {
    it(`${title} is refused`, () => {
      const bytes = Buffer.isBuffer(file) ? file : ggufBytes(file)
      assert.equal(
        refusalOf(() => open(bytes).close()),
        `invalid_checkpoint x.gguf: ${message}.`,
      )
    })
  }

  const otherVersions: readonly (readonly [number, string])[] = [
    [0, 'it is GGUF version 0; 2 and 3 are read'],
    [1, 'it is GGUF version 1; 2 and 3 are read'],
    [4, 'it is GGUF version 4; 2 and 3 are read'],
    [0x03000000, 'it is a big-endian GGUF file; a little-endian one is needed'],
  ]
  for (const [version, message] of otherVersions) {
    it(`version ${version} is refused by name`, () => {
      assert.equal(
        refusalOf(() => open(ggufBytes({ version })).close()),
        `unsupported_checkpoint x.gguf: ${message}.`,
      )
    })
  }

  it('a file that is missing or a folder is refused', () => {
    rmSync(path, { force: true })
    const missing = refusalOf(() => openGguf(path))
    assert.equal(missing, 'invalid_checkpoint x.gguf: it cannot be opened (ENOENT).')
    mkdirSync(path)
    const folder = refusalOf(() => openGguf(path))
    assert.equal(folder, 'invalid_checkpoint x.gguf: it is not a regular file.')
    rmSync(path, { recursive: true })
  })

  it('a header longer than is accepted is refused', () => {
    const long = { pairs: [pair('k', stringKind, text(Buffer.alloc(64 << 20, 'x')))] }
    assert.equal(
      refusalOf(() => open(ggufBytes(long)).close()),
      'invalid_checkpoint x.gguf: the header is longer than 64 MiB, the most accepted.',
    )
  })
})

describe('odd but whole GGUF files', () => {
  it('version 2, bytes after the last tensor and no tensors at all are read', () => {
    const bytes = Buffer.concat([ggufBytes({ version: 2 }), Buffer.from('trailing')])
    assert.deepEqual(
      read(bytes, (file) => file.readFloat32('a').length),
      8,
    )
    const empty = ggufBytes({ infos: [], data: Buffer.alloc(0) })
    assert.equal(
      read(empty.subarray(0, 24), (file) => file.tensors.size),
      0,
    )
  })

  it('another alignment moves the data', () => {
    const pairs = [pair('general.alignment', kinds.uint32, u32(256))]
    const data = Buffer.concat([Buffer.alloc(256), Buffer.alloc(32, 0x3f)])
    const bytes = ggufBytes({ pairs, infos: [info({ offset: 256 })], alignment: 256, data })
    const [value] = read(bytes, (file) => file.readFloat32('a'))
    assert.equal(value, Buffer.alloc(4, 0x3f).readFloatLE())
  })

  it('a header longer than is read at once keeps every text whole', () => {
    const texts = Array.from({ length: 40_000 }, (_, i) => `é${i}`)
    const long = 'é'.repeat(200_000)
    const pairs = [
      pair('texts', listKind, list(stringKind, texts.length, ...texts.map((one) => text(one)))),
      pair('long', stringKind, text(long)),
      pair('last', kinds.uint8, u8(7)),
    ]
    const values = read(ggufBytes({ pairs }), ({ metadata }) => Object.fromEntries(metadata))
    assert.deepEqual(values, { texts, long, last: 7 })
  })

  it('whole numbers beyond 2^53 are bigint, U+FFFD may stand in a text, keys are no properties', () => {
    const pairs = [
      pair('big', 10, u64(huge)),
      pair('safe', 10, u64(2n ** 53n - 1n)),
      pair('text', stringKind, text('\ufeff\ufffd')),
      pair('__proto__', kinds.bool, u8(1)),
    ]
    const values = read(ggufBytes({ pairs }), ({ metadata }) => metadata)
    const expected = { big: huge, safe: 2 ** 53 - 1, text: '\ufeff\ufffd', ['__proto__']: true }
    assert.deepEqual(Object.fromEntries(values), expected)
  })

  const unread: readonly (readonly [number, string])[] = [
    [16, 'IQ2_XXS'],
    [26, 'I32'],
    [77, 'the unknown type 77'],
    [2 ** 32 - 1, 'the unknown type 4294967295'],
  ]
  for (const [type, shown] of unread) {
    it(`a tensor of ${shown} is listed, and refused by name when it is read`, () => {
      const infos = [info({ dims: [256], type })]
      read(ggufBytes({ infos, data: Buffer.alloc(1024) }), (file) => {
        assert.deepEqual([...file.tensors.keys()], ['a'])
        const refusal = refusalOf(() => file.readFloat32('a'))
        const start = `unsupported_checkpoint x.gguf: tensor "a" is of ${shown}; F32, F16, `
        assert.equal(refusal.slice(0, start.length), start)
      })
    })
  }

  it('a tensor that is not there is refused; a closed file is a bug of the caller', () => {
    const file = open(whole)
    assert.equal(
      refusalOf(() => file.readFloat32('b')),
      'invalid_checkpoint x.gguf: there is no tensor "b".',
    )
    assert.throws(() => file.readFloat32Rows('a', 1, 2), RangeError)
    assert.throws(() => file.readFloat32Rows('a', -1, 1), RangeError)
    file.close()
    file.close()
    assert.throws(() => file.readFloat32('a'), /closed/)
  })

  it('parts of the blocks of a list are refused', () => {
    const bytes = ggufBytes({ infos: [info({ dims: [32], type: 8 })], data: Buffer.alloc(34) })
    read(bytes, (file) => {
      assert.equal(file.readFloat32Rows('a', 0, 32).length, 32)
      const refusal = refusalOf(() => file.readStoredRows('a', 1, 3))
      assert.match(refusal, /unsupported_checkpoint .*"a" is a list of Q8_0; parts of its blocks/)
    })
  })

  it('a file that is cut while it is open gives an error, not old memory', () => {
    const file = open(whole)
    writeFileSync(path, whole.subarray(0, 100))
    assert.equal(
      refusalOf(() => file.readFloat32('a')),
      'invalid_checkpoint x.gguf: the file became shorter while it was read.',
    )
    file.close()
  })
})

describe('split GGUF files', () => {
  const split = (number: number, count: number, ...more: Buffer[]) => [
    pair('split.no', kinds.uint16, u16(number)),
    pair('split.count', kinds.uint16, u16(count)),
    ...more,
  ]
  const total = (count: number) => pair('split.tensors.count', kinds.int32, u32(count))
  const part = (name: string, pairs: Buffer[], tensor: string) =>
    writeFileSync(join(temp, name), ggufBytes({ pairs, infos: [info({ name: tensor })] }))
  const first = 'm-00001-of-00002.gguf'
  const second = 'm-00002-of-00002.gguf'
  const openFirst = () => openGguf(join(temp, first)).close()

  function writeBoth(): void {
    part(first, split(0, 2, total(2)), 'a')
    part(second, split(1, 2, total(2)), 'b')
  }

  it('parts that agree are read as one', () => {
    writeBoth()
    assert.equal(refusalOf(openFirst), 'none')
  })

  const wrong: readonly (readonly [string, () => void, string])[] = [
    ['missing', () => rmSync(join(temp, second)), `${second}: it cannot be opened (ENOENT)`],
    [
      'doubled',
      () => part(second, split(0, 2), 'b'),
      `${second}: split.no is 0; by its name it must be 1`,
    ],
    [
      'of another number of parts',
      () => part(second, split(1, 3), 'b'),
      `${second}: split.count is 3; the other parts say 2`,
    ],
    [
      'no part by its metadata',
      () => part(second, [], 'b'),
      `${second}: split.count is missing; the other parts say 2`,
    ],
    [
      'of the same tensors',
      () => part(second, split(1, 2), 'a'),
      `${second}: tensor "a" is also in ${first}`,
    ],
    [
      'of another model by the number of tensors',
      () => part(first, split(0, 2, total(3)), 'a'),
      `${first}: split.tensors.count is 3; the parts have 2 tensors`,
    ],
    [
      'one of too many',
      () => part(first, split(0, 513), 'a'),
      `${first}: split.count is 513; at most 512 parts are accepted`,
    ],
  ]
  for (const [title, spoil, message] of wrong) {
    it(`a part that is ${title} is named`, () => {
      writeBoth()
      spoil()
      assert.equal(refusalOf(openFirst), `invalid_checkpoint ${message}.`)
    })
  }

  it('a part with a name that tells nothing of the others is refused', () => {
    part('one.gguf', split(0, 2), 'a')
    assert.equal(
      refusalOf(() => openGguf(join(temp, 'one.gguf'))),
      'invalid_checkpoint one.gguf: it is one of 2 parts, so its name must end in ' +
        '-00001-of-00002.gguf or the like.',
    )
  })
})
