// What choosing one token of a large vocabulary costs in JavaScript.
//   node dist/bench/tools/sampler.js

import type { SamplingParams } from '../../server/contracts/generation.ts'
import { logitBlock } from '../../server/graph/embedding.ts'
import { logprobsOf } from '../../server/sampling/logprobs.ts'
import { sample } from '../../server/sampling/sampler.ts'
import { createRandomNumbers, normal } from '../../test/support/random-numbers.ts'
import { createRequest } from '../../test/support/scripted-model.ts'

const vocabSize = 152_064
const rounds = 300
const random = createRandomNumbers(1)

/** Noise of this deviation, and a few tokens far above it. */
function makeLogits(deviation: number, best: number): Float32Array {
  const logits = Float32Array.from({ length: vocabSize }, () => deviation * normal(random))
  if (best > 0) for (let i = 0; i < 20; i++) logits[i * 7919] = best - i
  return logits
}

const kinds = {
  flat: makeLogits(1, 0),
  peaked: makeLogits(2.5, 25),
  'all alike': new Float32Array(vocabSize),
}
const settings: Record<string, Partial<SamplingParams>> = {
  greedy: { temperature: 0 },
  plain: { temperature: 0.6 },
  'top_p 0.95': { temperature: 0.6, topP: 0.95 },
  'top_k 40': { temperature: 0.6, topK: 40 },
  'top_p, min_p': { temperature: 0.6, topP: 0.95, minP: 0.05 },
}

/** As the graph tells them. */
function blockMaxOf(logits: Float32Array): Float32Array {
  const size = logitBlock(vocabSize)
  return Float32Array.from({ length: vocabSize / size }, (_, block) =>
    Math.max(...logits.subarray(block * size, (block + 1) * size)),
  )
}

function measure(work: () => unknown): string {
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const start = performance.now()
    work()
    times.push(performance.now() - start)
  }
  times.sort((x, y) => x - y)
  function at(share: number) {
    return (times[Math.floor(share * rounds)] ?? 0).toFixed(2)
  }

  return `median ${at(0.5)} ms, p99 ${at(0.99)} ms`
}

for (const [kind, logits] of Object.entries(kinds)) {
  for (const [name, sampling] of Object.entries(settings)) {
    const { sampling: params } = createRequest({ sampling })
    const nothing = {
      blockMax: blockMaxOf(logits),
      outputCounts: new Map(),
      promptTokens: new Set<number>(),
      forbidden: [],
    }
    const input = { logits, params, ...nothing, uniform: random }
    console.log(`${kind}, ${name}: ${measure(() => sample(input))}`)
  }
  // A likely token, as sampled ones are.
  console.log(`${kind}, logprobs of 5: ${measure(() => logprobsOf(logits, 7919, 5))}`)
}
