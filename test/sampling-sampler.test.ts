// The sampler against its own description, and against a reference that sorts everything.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { SamplingParams } from '../server/contracts/generation.ts'
import { createRandom } from '../server/sampling/random.ts'
import { NonFiniteLogitsError, type SamplerInput, sample } from '../server/sampling/sampler.ts'
import { createRandomNumbers, normal, pick } from './support/random-numbers.ts'
import { createRequest } from './support/scripted-model.ts'

type Options = Partial<SamplingParams> & Partial<Omit<SamplerInput, 'logits' | 'params'>>

function run(logits: readonly number[] | Float32Array, options: Options = {}): number {
  const { blockMax, outputCounts, promptTokens, forbidden, uniform, ...params } = options
  return sample({
    logits: Float32Array.from(logits),
    blockMax: blockMax ?? null,
    params: createRequest({ sampling: params }).sampling,
    outputCounts: outputCounts ?? new Map(),
    promptTokens: promptTokens ?? new Set(),
    forbidden: forbidden ?? [],
    uniform: uniform ?? (() => 0),
  })
}

/** The tokens that can come at all, found by walking through [0, 1) in small steps. */
function reachable(logits: readonly number[] | Float32Array, options: Options): Set<number> {
  const steps = 2000
  const found = new Set<number>()
  for (let i = 0; i < steps; i++) {
    found.add(run(logits, { temperature: 1, ...options, uniform: () => (i + 0.5) / steps }))
  }
  return found
}

/** What top_k, top_p and min_p leave: [id, probability] by id; sorts the whole vocabulary. */
function keptByReference(logits: Float32Array, params: SamplingParams): [number, number][] {
  const top = Math.max(
    ...logits.subarray(0, 1),
    logits.reduce((x, y) => Math.max(x, y)),
  )
  let kept = [...logits]
    .map((logit, id): [number, number] => [id, Math.exp((logit - top) / params.temperature)])
    .sort((x, y) => y[1] - x[1] || x[0] - y[0])
  if (params.topK > 0) kept = kept.slice(0, params.topK)
  if (params.topP < 1) {
    const mass = kept.reduce((sum, [, weight]) => sum + weight, 0)
    let cumulative = 0
    const end = kept.findIndex(([, weight]) => {
      cumulative += weight
      return cumulative >= params.topP * mass
    })
    kept = kept.slice(0, end + 1)
  }
  if (params.minP > 0) kept = kept.filter(([, weight]) => weight >= params.minP)
  const mass = kept.reduce((sum, [, weight]) => sum + weight, 0)
  return kept.map(([id, weight]): [number, number] => [id, weight / mass]).sort(([x], [y]) => x - y)
}

describe('greedy sampling', () => {
  it('takes the largest logit and never asks for randomness', () => {
    const uniform = () => assert.fail('asked for a random number')
    assert.equal(run([1, 3, 2], { uniform }), 1)
  })

  it('takes the lower id of equal logits', () => {
    assert.equal(run([0, 5, 5, 5]), 1)
    assert.equal(run([-2, -2]), 0)
  })

  it('does not write the logits it is given', () => {
    const logits = Float32Array.of(1, 2, 3)
    const params = createRequest({
      sampling: { logitBias: [[0, 50]], presencePenalty: 1 },
    }).sampling
    const counts = new Map([[2, 1]])
    const input = {
      logits,
      blockMax: null,
      params,
      promptTokens: new Set<number>(),
      forbidden: [1],
    }
    assert.equal(sample({ ...input, outputCounts: counts, uniform: () => 0 }), 0)
    assert.deepEqual([...logits], [1, 2, 3])
  })
})

describe('each parameter alone', () => {
  it('temperature sharpens and flattens: the odds are those of softmax(logit / temperature)', () => {
    for (const temperature of [0.25, 1, 2]) {
      // Token 0 has weight 1, token 1 e^(1/T): the border between them is at 1 / (1 + e^(1/T)).
      const border = 1 / (1 + Math.exp(1 / temperature))
      assert.equal(run([0, 1], { temperature, uniform: () => border - 1e-6 }), 0)
      assert.equal(run([0, 1], { temperature, uniform: () => border + 1e-6 }), 1)
    }
  })

  it('the smallest temperatures that can be written still take the best token', () => {
    for (const temperature of [1e-3, 1e-300, 5e-324]) {
      for (const uniform of [() => 0, () => 0.999999]) {
        assert.equal(run([1, 3, 2], { temperature, uniform }), 1, `${temperature}`)
        assert.equal(run([1, 3, 2], { temperature, uniform, topP: 0.9 }), 1, `${temperature}`)
        assert.equal(run([1, 3, 2], { temperature, uniform, topK: 2 }), 1, `${temperature}`)
      }
    }
  })

  it('top_k keeps the k best; ties at the border go to the lower id', () => {
    assert.deepEqual(reachable([1, 4, 3, 3, 2], { topK: 1 }), new Set([1]))
    assert.deepEqual(reachable([1, 4, 3, 3, 2], { topK: 2 }), new Set([1, 2]))
    assert.deepEqual(reachable([1, 4, 3], { topK: 99 }), new Set([0, 1, 2]))
  })

  it('top_p keeps the smallest set that reaches p, the token that crosses it included', () => {
    const logits = [0.5, 0.3, 0.15, 0.05].map(Math.log)
    assert.deepEqual(reachable(logits, { topP: 0.4 }), new Set([0]))
    assert.deepEqual(reachable(logits, { topP: 0.51 }), new Set([0, 1]))
    assert.deepEqual(reachable(logits, { topP: 0.79 }), new Set([0, 1]))
    assert.deepEqual(reachable(logits, { topP: 0.9 }), new Set([0, 1, 2]))
    assert.deepEqual(reachable(logits, { topP: 1e-9 }), new Set([0]))
  })

  it('min_p keeps what is at least p times as likely as the best', () => {
    const logits = [0.5, 0.3, 0.15, 0.05].map(Math.log)
    assert.deepEqual(reachable(logits, { minP: 0.59 }), new Set([0, 1]))
    assert.deepEqual(reachable(logits, { minP: 0.61 }), new Set([0]))
    assert.deepEqual(reachable(logits, { minP: 1 }), new Set([0]))
    assert.deepEqual(reachable(logits, { minP: 0.09 }), new Set([0, 1, 2, 3]))
  })

  it('presence counts a generated token once, frequency each time', () => {
    const outputCounts = new Map([[0, 3]])
    assert.equal(run([2, 1.5], { outputCounts, presencePenalty: 0.4 }), 0)
    assert.equal(run([2, 1.5], { outputCounts, presencePenalty: 0.6 }), 1)
    assert.equal(run([2, 1.5], { outputCounts, frequencyPenalty: 0.16 }), 0)
    assert.equal(run([2, 1.5], { outputCounts, frequencyPenalty: 0.17 }), 1)
    assert.equal(run([2, 2.5], { outputCounts, presencePenalty: -0.6 }), 0)
  })

  it('presence and frequency leave the prompt alone, repetition counts it', () => {
    const promptTokens = new Set([0])
    assert.equal(run([2, 1.5], { promptTokens, presencePenalty: 2, frequencyPenalty: 2 }), 0)
    assert.equal(run([2, 1.5], { promptTokens, repetitionPenalty: 1.4 }), 1)
  })

  it('repetition divides positive logits and multiplies negative ones, once each', () => {
    const seen = { promptTokens: new Set([0]), outputCounts: new Map([[0, 5]]) }
    assert.equal(run([3, 1.6], { ...seen, repetitionPenalty: 1.5 }), 0) // 2 against 1.6
    assert.equal(run([3, 2.1], { ...seen, repetitionPenalty: 1.5 }), 1)
    assert.equal(run([-1, -1.4], { ...seen, repetitionPenalty: 1.5 }), 1) // −1.5 against −1.4
    assert.equal(run([-1, -0.6], { ...seen, repetitionPenalty: 0.5 }), 0) // −0.5 against −0.6
  })

  it('a bias of 100 forces a token and one of −100 bans it', () => {
    const logits = Float32Array.from({ length: 50 }, (_, id) => Math.sin(id) * 20)
    const forced = { topP: 0.9, minP: 0.01, logitBias: [[17, 100] as const] }
    assert.deepEqual(reachable(logits, forced), new Set([17]))
    const flat = new Float32Array(4)
    assert.deepEqual(reachable(flat, { logitBias: [[2, -100]] }), new Set([0, 1, 3]))
    assert.equal(run([5, 1], { logitBias: [[0, -100]] }), 1)
  })

  it('forbidden tokens never come, also when they are biased', () => {
    assert.equal(run([1, 9], { forbidden: [1] }), 0)
    const options = { forbidden: [1], logitBias: [[1, 100] as const] }
    assert.deepEqual(reachable([1, 9, 1], options), new Set([0, 2]))
  })
})

describe('order of operations', () => {
  it('penalties come before the bias: repetition does not scale it', () => {
    // (1 / 2) + 3 = 3.5 beats 3; were the bias added first it would be (1 + 3) / 2 = 2.
    const seen = { promptTokens: new Set([0]), repetitionPenalty: 2 }
    assert.equal(run([1, 3], { ...seen, logitBias: [[0, 3]] }), 0)
  })

  it('the bias comes before the temperature', () => {
    // 2 of bias at temperature 2 is a factor of e.
    const border = 1 / (1 + Math.E)
    const options = { temperature: 2, logitBias: [[1, 2] as const] }
    assert.equal(run([0, 0], { ...options, uniform: () => border - 1e-6 }), 0)
    assert.equal(run([0, 0], { ...options, uniform: () => border + 1e-6 }), 1)
  })

  it('top_p shares out what top_k left', () => {
    // Of 0.4, 0.3, 0.3: top_k 2 leaves 0.57 and 0.43, so that 0.5 is reached by the first.
    const logits = [0.4, 0.3, 0.3].map(Math.log)
    assert.deepEqual(reachable(logits, { topP: 0.5 }), new Set([0, 1]))
    assert.deepEqual(reachable(logits, { topP: 0.5, topK: 2 }), new Set([0]))
  })

  it('temperature comes before top_p and min_p', () => {
    const logits = [0.6, 0.3, 0.1].map(Math.log)
    assert.deepEqual(reachable(logits, { topP: 0.55 }), new Set([0]))
    assert.deepEqual(reachable(logits, { topP: 0.55, temperature: 5 }), new Set([0, 1]))
    assert.deepEqual(reachable(logits, { minP: 0.6 }), new Set([0]))
    assert.deepEqual(reachable(logits, { minP: 0.6, temperature: 5 }), new Set([0, 1, 2]))
  })
})

describe('top_k, top_p and min_p against a sort of the whole vocabulary', () => {
  const random = createRandomNumbers(20_26)
  const choices = {
    temperature: [0.2, 0.6, 1, 1.9],
    topK: [0, 0, 1, 5, 40, 10_000],
    topP: [1, 0.95, 0.5, 0.01, 0.9999],
    minP: [0, 0, 0.05, 0.5, 1e-6],
  }
  const choose = <T>(values: readonly T[]): T => values[pick(random, values.length)] as T

  for (const [vocab, rounds] of [
    [3, 300],
    [50, 300],
    [1_000, 100],
    [50_000, 15],
  ] as const) {
    it(`gives the reference's token for every uniform number, vocabulary ${vocab}`, () => {
      for (let round = 0; round < rounds; round++) {
        const spread = choose([0.01, 1, 5, 30])
        const logits = Float32Array.from({ length: vocab }, () => spread * normal(random))
        // Whole logits make ties.
        if (round % 3 === 0) for (const [i, x] of logits.entries()) logits[i] = Math.round(x)
        const { params, text } = describeParams()
        const kept = keptByReference(logits, params)
        if (params.topK === 0 && params.topP === 1 && params.minP === 0) continue
        for (const u of [0, random(), random(), 0.999999]) {
          let cumulative = 0
          const place = kept.findIndex(([, p]) => {
            cumulative += p
            return cumulative > u
          })
          const want = kept[place < 0 ? kept.length - 1 : place] as [number, number]
          // Rounding of the running sums may decide within 1e-9 of a border.
          if (Math.abs(cumulative - u) < 1e-9 || u - (cumulative - want[1]) < 1e-9) {
            if (u > 0) continue
          }
          const got = run(logits, { ...params, uniform: () => u })
          assert.equal(got, want[0], `${text}, spread ${spread}, u ${u}`)
        }
      }
    })
  }

  function describeParams() {
    const sampling = {
      temperature: choose(choices.temperature),
      topK: choose(choices.topK),
      topP: choose(choices.topP),
      minP: choose(choices.minP),
    }
    return { params: createRequest({ sampling }).sampling, text: JSON.stringify(sampling) }
  }
})

describe('the distribution', () => {
  // Chi-square with 9 degrees of freedom: the odds of a value above 47 by chance are 4 in 10⁷. The
  // seed is fixed, so a failure means a change of the sampler or of the random numbers.
  for (const [title, params] of [
    ['of the whole vocabulary', {}],
    ['after top_p', { topP: 0.9999999 }],
  ] as const) {
    it(`${title} is softmax: 100,000 draws`, () => {
      const logits = Float32Array.from({ length: 10 }, (_, id) => Math.sin(id * 2))
      const mass = logits.reduce((sum, logit) => sum + Math.exp(logit), 0)
      const uniform = createRandom(99n)
      const counts = new Array<number>(10).fill(0)
      const draws = 100_000
      for (let i = 0; i < draws; i++) {
        const token = run(logits, { temperature: 1, ...params, uniform: () => uniform(i) })
        counts[token] = (counts[token] ?? 0) + 1
      }
      let chiSquare = 0
      for (const [id, count] of counts.entries()) {
        const expected = (draws * Math.exp(logits[id] as number)) / mass
        chiSquare += (count - expected) ** 2 / expected
      }
      assert.ok(chiSquare < 47, `chi-square ${chiSquare}`)
    })
  }
})

describe('the largest logit of each block', () => {
  const blockMaxOf = (logits: Float32Array, size: number) =>
    Float32Array.from({ length: logits.length / size }, (_, block) =>
      logits.subarray(block * size, (block + 1) * size).reduce((x, y) => Math.max(x, y)),
    )

  it('changes no token, ties and changed logits included', () => {
    const random = createRandomNumbers(8)
    for (let round = 0; round < 500; round++) {
      // Whole numbers, so that ties come often, also between blocks.
      const logits = Float32Array.from({ length: 64 }, () => Math.round(2 * normal(random)))
      const blockMax = blockMaxOf(logits, 8)
      const options = {
        temperature: pick(random, 2),
        topP: 0.9,
        logitBias: pick(random, 2) === 0 ? [] : [[pick(random, 64), 3] as const],
        uniform: () => 0.37,
      }
      assert.equal(run(logits, { ...options, blockMax }), run(logits, options))
    }
  })

  it('leaves out what weighs nothing, and chooses as if all were there', () => {
    // 4,096 logits of noise far below a few: most blocks are left out. Of 2,000 draws none may differ;
    // one would with a chance of 2,000 · 1e-7.
    const random = createRandomNumbers(9)
    for (let round = 0; round < 50; round++) {
      const logits = Float32Array.from({ length: 4096 }, () => 2 * normal(random))
      for (let i = 0; i < 12; i++) logits[pick(random, 4096)] = 30 - i / 2
      const blockMax = blockMaxOf(logits, 128)
      for (const params of [{}, { topP: 0.95 }, { topK: 5 }, { topP: 0.9, minP: 0.05 }]) {
        for (let draw = 0; draw < 10; draw++) {
          const uniform = random()
          const options = { temperature: 0.6, ...params, uniform: () => uniform }
          assert.equal(run(logits, { ...options, blockMax }), run(logits, options))
        }
      }
    }
  })

  it('is believed: a block that is not the largest is not looked into', () => {
    assert.equal(run([0, 9, 5, 1], { blockMax: Float32Array.of(0, 5) }), 2)
  })

  it('refuses what is no number, as without', () => {
    for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]) {
      const blockMax = Float32Array.of(bad, bad)
      assert.throws(() => run([bad, bad, bad, bad], { blockMax }), NonFiniteLogitsError)
    }
  })
})

describe('logits that are no numbers', () => {
  for (const [title, logits] of [
    ['NaN first', [Number.NaN, 1, 2]],
    ['NaN after the best', [1, 2, Number.NaN]],
    ['+∞', [1, Number.POSITIVE_INFINITY]],
    ['nothing but −∞', [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]],
    ['nothing at all', []],
  ] as const) {
    for (const temperature of [0, 1]) {
      it(`are refused: ${title}, temperature ${temperature}`, () => {
        assert.throws(() => run(logits, { temperature }), NonFiniteLogitsError)
      })
    }
  }

  it('a single −∞ is only a token that never comes', () => {
    assert.deepEqual(reachable([0, Number.NEGATIVE_INFINITY, 0], {}), new Set([0, 2]))
    assert.deepEqual(reachable([0, Number.NEGATIVE_INFINITY, 0], { topK: 3 }), new Set([0, 2]))
  })
})
