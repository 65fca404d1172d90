// The first token, before any request.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createStartup } from '../server/engine/startup.ts'

const clock = (times: number[]) => ({ now: () => times.shift() ?? 0, peakRssBytes: () => 77 })

test('tells what converting, loading and the first token took, and the peak of memory', async () => {
  const startup = createStartup(clock([1000, 3500, 4000, 4250]))
  startup.markConverted()
  const told = await startup.warmUp({ prefill: async () => Float32Array.of(1, 2) })
  assert.deepEqual(told, {
    scanSeconds: 0,
    convertSeconds: 2.5,
    loadSeconds: 0.5,
    firstTokenSeconds: 0.25,
    peakRssBytes: 77,
  })
})

test('refuses a model whose logits are no numbers', async () => {
  const startup = createStartup(clock([]))
  const broken = { prefill: async () => Float32Array.of(1, Number.NaN) }
  await assert.rejects(startup.warmUp(broken), { code: 'invalid_checkpoint' })
})

test('the look at the adapters folder is no part of the conversion', async () => {
  // Start; before and after the look; converted; loaded; the first token.
  const startup = createStartup(clock([1000, 1200, 6200, 7000, 7500, 7600]))
  assert.equal(await startup.scan(async () => 'sites'), 'sites')
  startup.markConverted()
  const told = await startup.warmUp({ prefill: async () => Float32Array.of(1, 2) })
  assert.deepEqual([told.scanSeconds, told.convertSeconds, told.loadSeconds], [5, 1, 0.5])
})
