// The bank: which slots are handed out, and what is in them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBank } from '../server/adapters/bank.ts'
import type { Component } from '../server/adapters/component.ts'

const numSlots = 4

function createTestBank() {
  const dirt = (size: number) => new Float32Array(numSlots * size).fill(7)
  const a = [dirt(2), dirt(2)]
  const b = [dirt(3), dirt(3)]
  const module = 'up_proj' as const
  const places = [0, 1].map((layer) => ({ layer, module, a: a[layer]!, b: b[layer]! }))
  const bank = createBank({ numSlots, places })
  return {
    bank,
    row: (layer: number, slot: number) => ({
      a: [...a[layer]!.subarray(slot * 2, slot * 2 + 2)],
      b: [...b[layer]!.subarray(slot * 3, slot * 3 + 3)],
    }),
  }
}

const component = (value: number, layer = 1): Component => [
  {
    layer,
    module: 'up_proj',
    a: Float32Array.of(value, value),
    b: Float32Array.of(value, value, value),
  },
]
const zeros = { a: [0, 0], b: [0, 0, 0] }

test('slot 0 is zeros and never handed out', () => {
  const { bank, row } = createTestBank()
  const slots = bank.allocate([component(1), component(2), component(3)])!
  assert.deepEqual([...slots].sort(), [1, 2, 3])
  assert.deepEqual(row(0, 0), zeros)
  assert.deepEqual(row(1, 0), zeros)
})

test('a slot holds its component, and zeros for layers that are not adapted', () => {
  const { bank, row } = createTestBank()
  const [slot] = bank.allocate([component(5)])!
  assert.deepEqual(row(1, slot!), { a: [5, 5], b: [5, 5, 5] })
  assert.deepEqual(row(0, slot!), zeros)
})

test('nothing is written when there are too few slots', () => {
  const { bank, row } = createTestBank()
  bank.allocate([component(1), component(2)])
  assert.equal(bank.allocate([component(3), component(4)]), null)
  assert.equal(bank.numFree, 1)
  assert.deepEqual(row(1, 3), { a: [7, 7], b: [7, 7, 7] })
})

test('a freed slot carries nothing of its last owner into the next', () => {
  const { bank, row } = createTestBank()
  const slots = bank.allocate([component(1, 0), component(2, 0), component(3, 0)])!
  bank.free(slots)
  const [slot] = bank.allocate([component(9, 1)])!
  assert.deepEqual(row(0, slot!), zeros)
})

test('freeing a slot twice, or the base, is a bug that shows', () => {
  const { bank } = createTestBank()
  const slots = bank.allocate([component(1)])!
  bank.free(slots)
  assert.throws(() => bank.free(slots), /not in use/)
  assert.throws(() => bank.free([0]), /not in use/)
})

test('an update for a module without a place is a bug that shows', () => {
  const { bank } = createTestBank()
  const [update] = component(1)
  assert.throws(() => bank.allocate([[{ ...update!, module: 'q_proj' }]]), /no place for 1.q_proj/)
})
