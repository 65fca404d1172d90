// How much of a prompt may come between two decode steps.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createPrefillBudget } from '../server/loop/prefill-budget.ts'

describe('the pace of a prompt', () => {
  it('settles where a chunk takes the target, also with a fixed cost per run', () => {
    for (const [fixedMs, msPerToken] of [
      [20, 1],
      [100, 3],
      [5, 0.7],
    ] as const) {
      const pace = createPrefillBudget({ maxChunk: 512, targetMs: 250 })
      for (let i = 0; i < 60; i++) pace.observe(pace.tokens, fixedMs + msPerToken * pace.tokens)
      const ms = fixedMs + msPerToken * pace.tokens
      assert.ok(ms <= 251 && ms > 240, `${pace.tokens} tokens take ${ms} ms`)
    }
  })

  it('stays between 16 tokens and the largest chunk, whatever was measured', () => {
    const pace = createPrefillBudget({ maxChunk: 512, targetMs: 250 })
    pace.observe(64, 1e6)
    assert.equal(pace.tokens, 16)
    for (let i = 0; i < 20; i++) pace.observe(pace.tokens, 0.001)
    assert.equal(pace.tokens, 512)
    pace.observe(2, 1e6)
    assert.equal(pace.tokens, 512)
  })

  it('grows by no more than a factor of two at a time', () => {
    const pace = createPrefillBudget({ maxChunk: 512, targetMs: 250 })
    const first = pace.tokens
    pace.observe(first, 0.001)
    assert.equal(pace.tokens, 2 * first)
  })
})
