// The same file in llama.cpp, which rounds activations to 8 bits and keeps keys and values in 16: along
// the same tokens the two are close, and nearly always choose the same next one.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { compare } from '../../bench/tools/answers.ts'
import { llamaLogits } from './llama-cpp.ts'
import { modelPath, openRealModel } from './place.ts'
import { readReference } from './reference.ts'

it('in float32 the next-token distributions are those of llama.cpp on the same file', async (t) => {
  const { prompts, references } = readReference('base')
  const sequences = references.map(({ tokens }, i) => ({
    tokens: [...prompts[i]!, ...tokens.slice(0, -1)],
    from: prompts[i]!.length - 1,
  }))
  const logits = await llamaLogits(modelPath, sequences)
  const theirs = references.map(({ tokens }, i) => ({ tokens, logits: logits[i]! }))
  const model = await openRealModel({ format: { kind: 'fp32' } })
  const found = await compare(model, prompts, theirs).finally(model.close)
  const { meanKl, maxKl, sameTokens } = found
  t.diagnostic(
    `llama.cpp: mean KL ${meanKl.toExponential(1)}, largest ${maxKl.toExponential(1)} nats, ` +
      `same token in ${(100 * sameTokens).toFixed(1)} %`,
  )
  assert.ok(meanKl <= 0.05, `mean KL ${meanKl}`)
  assert.ok(sameTokens >= 0.95, `same tokens ${sameTokens}`)
})
