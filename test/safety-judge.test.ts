// What a verdict says and allows, by plan and guard.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { SafetyPlan } from '../server/contracts/safety.ts'
import type { LoadedGuard } from '../server/safety/guard.ts'
import { createJudge } from '../server/safety/judge.ts'

/** Calibrated apart: a prompt is flagged from 0.5, what is said from 0.9. */
const guard: LoadedGuard = {
  info: { kind: 'adapter', id: 'watch', digest: 'd', hasProbe: false, threshold: 0.9 },
  token: 3,
  labels: { safe: 0, unsafe: 1 },
  components: [],
  probe: null,
  isExact: false,
  calibrationOf: (_, part) => ({
    temperature: 1,
    threshold: part === 'input' ? 0.5 : 0.9,
    certified: true,
  }),
}
const plan: SafetyPlan = {
  input: 'block',
  reply: 'block',
  every: 4,
  threshold: null,
  escalation: null,
  failure: 'closed',
}
/** P(unsafe) = 0.8 */
const logits = Float32Array.of(0, Math.log(4))

function judgedPrompt(more: Partial<SafetyPlan>, given: Float32Array | null = logits) {
  const judge = createJudge({ plan: { ...plan, ...more }, guard })
  judge.schedule.addPrompt()
  return judge.conclude({ applied: [], isWhole: true }, given, 'failed')
}

describe('the threshold of a verdict', () => {
  it("is the guard's own of the part, or the plan's", () => {
    const own = judgedPrompt({})
    assert.deepEqual([own.verdict.threshold, own.follows], [0.5, 'block'])
    const higher = judgedPrompt({ threshold: 0.85 })
    assert.deepEqual([higher.verdict.threshold, higher.follows], [0.85, 'pass'])
  })

  it("is never above the guard's own where the plan's is a cap", () => {
    const capped = judgedPrompt({ threshold: 0.85, isThresholdCap: true })
    assert.deepEqual([capped.verdict.threshold, capped.follows], [0.5, 'block'])
    const lower = judgedPrompt({ threshold: 0.1, isThresholdCap: true })
    assert.equal(lower.verdict.threshold, 0.1)
  })
})

describe('a verdict without a score', () => {
  it('is never safe: the plan says what follows', () => {
    const broken = Float32Array.of(Number.NaN, 0)
    for (const given of [null, broken]) {
      const closed = judgedPrompt({}, given)
      assert.deepEqual([closed.verdict.score, closed.verdict.skipped], [null, 'failed'])
      assert.equal(closed.follows, 'block')
      assert.equal(judgedPrompt({ failure: 'open' }, given).follows, 'pass')
      assert.equal(judgedPrompt({ input: 'escalate' }, given).follows, 'block')
      assert.equal(judgedPrompt({ input: 'observe' }, given).follows, 'pass')
    }
  })
})
