// Tensors that come and go by the thousand, as blocks of the prefix cache do, leave no holes behind.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocateMemory } from '../server/runtime/native-memory.ts'
import { allocateTensor } from '../server/runtime/session.ts'

const mebibyte = 2 ** 20
const numReplaced = 5_000

/** Growth in MiB while blocks of so many bytes replace one another, 32 MiB of them at a time. */
function grownBy(blockBytes: number): { held: number; replaced: number } {
  const words = blockBytes / 4
  const numHeld = (32 * mebibyte) / blockBytes
  const make = () => {
    const block = allocateTensor('float32', [words])
    block.data.fill(1)
    return block
  }
  const atFirst = process.memoryUsage.rss()
  const blocks = Array.from({ length: Math.floor(numHeld) }, make)
  const before = process.memoryUsage.rss()
  for (let i = 0; i < numReplaced; i++) {
    const at = i % blocks.length
    blocks[at]!.release()
    blocks[at] = make()
  }
  const after = process.memoryUsage.rss()
  for (const block of blocks) block.release()
  return { held: (before - atFirst) / mebibyte, replaced: (after - before) / mebibyte }
}

// 64 KiB: a block of the model that ships. 720 KiB: one of a small real model, of which only one fits
// into 1 MiB.
for (const kibibytes of [64, 720]) {
  test(`blocks of ${kibibytes} KiB take the memory that they hold, however often replaced`, () => {
    const { held, replaced } = grownBy(kibibytes * 1024)
    assert.ok(held < 40, `32 MiB of blocks take ${held.toFixed(0)} MiB`)
    assert.ok(replaced < 16, `replacing them takes another ${replaced.toFixed(0)} MiB`)
  })
}

test('memory begins at a multiple of 64 bytes, of the heap or beyond it', () => {
  for (const bytes of [8, 100, 65_536, 64 * mebibyte]) {
    const { address, free } = allocateMemory(bytes)
    assert.equal(address % 64, 0, `${bytes} bytes`)
    free()
  }
})
