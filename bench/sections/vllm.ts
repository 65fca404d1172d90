// Section vllm: the small real shape over HTTP, beside vLLM with its LoRA, each asked by
// the same client.

import { vllmWeights } from '../machine.ts'
import { type Builder, ratio } from './builder.ts'
import type { Section } from './section.ts'
import { targetFor } from './targets.ts'

const different = [0, 1, 2, 3, 4, 5, 6, 7]
/** What a time to the first token is taken of. */
const firstTokenPrompt = 1000

export function vllmSections(builder: Builder): readonly Section[] {
  if (builder.shape !== 'smollm2-135m') return []
  const { makeUse, decodeCase, prefillCase, instructionSet } = builder
  const capacity = 2048
  const vllm = makeUse('vllm', vllmWeights(), { capacity })
  const ours = (['int8-128', 'int4-128'] as const).map((weights) =>
    makeUse('dutyfree-http', weights, { capacity }),
  )
  const cases = [...ours, vllm].flatMap((use) => [
    decodeCase(use, 1),
    decodeCase(use, 8),
    decodeCase(use, 8, different, '8 different adapters'),
    prefillCase(use, firstTokenPrompt),
    prefillCase(use, firstTokenPrompt, 0),
  ])
  const comparisons = ours.flatMap((use) => [
    ...[1, 8].map((n) =>
      ratio(
        decodeCase(use, n),
        decodeCase(vllm, n),
        `${n} streams over HTTP: ${use.weights} over vLLM`,
      ),
    ),
    ratio(
      decodeCase(use, 8, different, '8 different adapters'),
      decodeCase(vllm, 8, different, '8 different adapters'),
      `8 different adapters over HTTP: ${use.weights} over vLLM`,
      targetFor(instructionSet, '8 adapters over vLLM'),
    ),
    ratio(
      prefillCase(use, firstTokenPrompt),
      prefillCase(vllm, firstTokenPrompt),
      `first token of ${firstTokenPrompt}, base: ${use.weights} over vLLM`,
      targetFor(instructionSet, 'first token over vLLM'),
    ),
    ratio(
      prefillCase(use, firstTokenPrompt, 0),
      prefillCase(vllm, firstTokenPrompt, 0),
      `first token of ${firstTokenPrompt}, one adapter: ${use.weights} over vLLM`,
    ),
  ])
  return [builder.section('vllm', 'beside vLLM, over HTTP', cases, comparisons)]
}
