// How long a step may take before it counts as a hang.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createStepBounds, watchRunner } from '../server/engine/watched-runner.ts'
import type { Runner } from '../server/model/runner.ts'

describe('step bounds', () => {
  it('begin with what the first token took: ten times, and in proportion to the tokens', () => {
    const bounds = createStepBounds({ tokens: 2, ms: 400 })
    assert.equal(bounds.allowanceMs('decode', 1), 4_000)
    assert.equal(bounds.allowanceMs('prefill', 2), 4_000)
    // A 7B model on a CPU computes a chunk of 512 tokens in some 20 s.
    assert.equal(bounds.allowanceMs('prefill', 512), 1_024_000)
  })

  it('then follow the longest step of the kind', () => {
    const bounds = createStepBounds({ tokens: 2, ms: 400 })
    bounds.learn('prefill', 512, 20_000)
    bounds.learn('prefill', 16, 900)
    assert.equal(bounds.allowanceMs('prefill', 512), 200_000)
    assert.equal(bounds.allowanceMs('prefill', 16), 200_000)
    assert.equal(bounds.allowanceMs('decode', 1), 4_000)
    bounds.learn('decode', 8, 1_500)
    assert.equal(bounds.allowanceMs('decode', 8), 15_000)
  })
})

describe('a watched runner', () => {
  it('tells the heart of each step with its bound, and of its end, also when it fails', async () => {
    let now = 0
    const told: string[] = []
    const runner = {
      async prefill() {
        now += 300
        return Float32Array.of(1)
      },
      async decode() {
        throw new Error('the device is lost')
      },
    } as unknown as Runner
    const watched = watchRunner(runner, {
      heart: {
        enter: (phase, allowanceMs = 0) => told.push(`${phase} ${allowanceMs}`),
        progress() {},
      },
      bounds: createStepBounds({ tokens: 2, ms: 100 }),
      now: () => now,
    })
    const tokens = [1, 2]
    await watched.prefill({ row: 0, tokens, past: 0, components: [] })
    await watched.prefill({ row: 0, tokens, past: 2, components: [] })
    await assert.rejects(watched.decode([{ token: 1, past: 4, components: [] }]), /device is lost/)
    const ends = 'serving 0'
    assert.deepEqual(told, ['prefill 1000', ends, 'prefill 3000', ends, 'decode 1000', ends])
  })
})
