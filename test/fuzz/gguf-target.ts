// GGUF files, spoilt byte by byte and number by number, given to what reads them: each is read, or
// refused in a clear error, and takes little memory either way.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { openGguf } from '../../server/gguf/gguf-file.ts'
import {
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
} from '../support/gguf-bytes.ts'
import { checkRefusal } from './claims.ts'
import { createFolder } from './file-targets.ts'
import type { Target } from './target.ts'

const codes = ['invalid_checkpoint', 'unsupported_checkpoint']
/** Far more than files of some 2,000 bytes need, far less than a number in them can claim. */
const mostMemory = 32 << 20

const split = (number: number) => [
  pair('split.no', kinds.uint16, u16(number)),
  pair('split.count', kinds.uint16, u16(2)),
  pair('split.tensors.count', kinds.int32, u32(5)),
]
const pairs = [
  pair('general.alignment', kinds.uint32, u32(32)),
  pair('text', stringKind, text('é')),
  pair('texts', listKind, list(stringKind, 2, text('a'), text(''))),
  pair('bools', listKind, list(kinds.bool, 3, u8(0), u8(1), u8(1))),
  pair('big', 10, u64(2n ** 60n)),
]
const infos = [
  info(),
  info({ name: 'blk.0.q', dims: [32, 2], type: 2, offset: 32 }),
  info({ name: 'k', dims: [256, 1, 2], type: 12, offset: 96 }),
  info({ name: 'odd', dims: [256], type: 16, offset: 384 }),
]
const data = Buffer.alloc(480, 0x3c)
export const goodFiles = [
  ggufBytes({ pairs, infos, data }),
  ggufBytes({ pairs: [...pairs, ...split(0)], infos, data }),
]
export const secondPart = ggufBytes({ pairs: split(1), infos: [info({ name: 'b' })] })
const mostHeaderBytes = Math.max(...goodFiles.map(({ length }) => length)) - data.length

interface Edit {
  readonly at: number
  readonly removed: number
  readonly added: Uint8Array
}

const numbers = fc.oneof(
  fc.bigInt(0n, 300n),
  fc.constantFrom(2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
)
const overwrite = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 4 }),
  fc.nat(255).map((value) => u8(value)),
  numbers.map((value) => u32(Number(value & 0xffffffffn))),
  numbers.map((value) => u64(value)),
)
const edits: fc.Arbitrary<readonly Edit[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc
        .tuple(fc.nat(mostHeaderBytes), overwrite)
        .map(([at, added]) => ({ at, removed: added.length, added })),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        at: fc.nat(mostHeaderBytes),
        removed: fc.nat(9),
        added: fc.uint8Array({ maxLength: 9 }),
      }),
    },
  ),
  { maxLength: 4 },
)

interface SpoiltFile {
  readonly good: number
  readonly edits: readonly Edit[]
  readonly cut: number | null
}

function toBytes({ good, edits, cut }: SpoiltFile): Buffer {
  const bytes = edits.reduce((before, { at, removed, added }) => {
    return Buffer.concat([before.subarray(0, at), added, before.subarray(at + removed)])
  }, goodFiles[good]!)
  return cut === null ? bytes : bytes.subarray(0, cut)
}

export const ggufTarget: Target<SpoiltFile> = {
  name: 'gguf',
  inputs: fc.record({
    good: fc.nat(goodFiles.length - 1),
    edits,
    cut: fc.option(fc.nat(1200), { freq: 8 }),
  }),
  open() {
    const folder = createFolder()
    const path = join(folder.path, 'x-00001-of-00002.gguf')
    writeFileSync(join(folder.path, 'x-00002-of-00002.gguf'), secondPart)
    return {
      check(input) {
        writeFileSync(path, toBytes(input))
        const before = memoryUsed()
        checkRefusal(codes, () => readAll(path))
        const used = memoryUsed() - before
        assert.ok(used < mostMemory, `${used} bytes of memory`)
      },
      close: folder.remove,
    }
  },
}

function readAll(path: string): void {
  const file = openGguf(path)
  try {
    for (const name of file.tensors.keys()) {
      checkRefusal(codes, () => file.readFloat32(name))
      checkRefusal(codes, () => file.readFloat32Rows(name, 0, 1))
    }
  } finally {
    file.close()
  }
}

function memoryUsed(): number {
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
