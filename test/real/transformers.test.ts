// A real model's file as transformers and PEFT compute it, in float32: tokens of prompts, weights,
// next-token distributions along greedy answers, and the same with adapters.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Comparison, compare } from '../../bench/tools/answers.ts'
import { formatOf } from '../../server/engine/weights.ts'
import { loadChatTemplate } from '../../server/tokenizer/chat-template.ts'
import { loadTokenizer } from '../../server/tokenizer/tokenizer.ts'
import { modelPath, openRealModel } from './place.ts'
import { prompts } from './prompts.ts'
import { adapterIds, readReference, reference } from './reference.ts'

/** float32 sums in another order, over 30 layers. */
const float32Kl = 1e-8

function describeKl({ meanKl, maxKl, sameTokens }: Comparison): string {
  return (
    `mean KL ${meanKl.toExponential(1)}, largest ${maxKl.toExponential(1)} nats, ` +
    `same token in ${(100 * sameTokens).toFixed(1)} %`
  )
}

describe('a real model, against transformers', () => {
  it('prompts become the same tokens, by the file’s own template and tokenizer', () => {
    const template = loadChatTemplate(modelPath, loadTokenizer(modelPath))
    for (const [i, content] of prompts.entries()) {
      const messages = [{ role: 'user' as const, content }]
      const { tokens } = template.encode(messages, { addGenerationPrompt: true })
      assert.deepEqual(tokens, reference.prompts[i], content)
    }
  })

  it('export-model writes the very numbers that transformers reads from the file', () => {
    assert.deepEqual(reference.differingTensors, [])
  })

  it('in float32 every next token is the same, and so is its distribution', async (t) => {
    const model = await openRealModel({ format: { kind: 'fp32' } })
    const { prompts, references } = readReference('base')
    const found = await compare(model, prompts, references).finally(model.close)
    t.diagnostic(`fp32: ${describeKl(found)}`)
    assert.equal(found.sameTokens, 1)
    assert.ok(found.maxKl <= float32Kl, describeKl(found))
  })

  it('adapters change the distributions as PEFT does, over all linear modules', async (t) => {
    const model = await openRealModel({ format: { kind: 'fp32' } })
    try {
      assert.ok(adapterIds.includes('random'))
      for (const id of adapterIds) {
        const { prompts, references } = readReference(id)
        const components = await model.components({ [id]: 1 })
        const found = await compare(model, prompts, references, components)
        t.diagnostic(`fp32, adapter ${id}: ${describeKl(found)}`)
        assert.equal(found.sameTokens, 1, id)
        assert.ok(found.maxKl <= float32Kl, `${id}: ${describeKl(found)}`)
        // Without it they are others.
        const base = await compare(model, prompts, references)
        assert.ok(base.meanKl > 100 * float32Kl, `${id}: ${describeKl(base)}`)
      }
    } finally {
      model.close()
    }
  })

  /** Twice what was measured; small models lose more than large ones. */
  const bounds = { stored: 0.01, int8: 0.03 } as const
  for (const name of ['stored', 'int8'] as const) {
    const most = bounds[name]
    it(`--weights ${name} stays within a mean KL of ${most} nats`, async (t) => {
      const asServed = formatOf(name, { weightBlock: null, weightZeroPoints: null })
      const model = await openRealModel({ format: asServed })
      const { prompts, references } = readReference('base')
      const found = await compare(model, prompts, references).finally(model.close)
      t.diagnostic(`${name}: ${describeKl(found)}`)
      assert.ok(found.meanKl <= most, describeKl(found))
    })
  }
})
