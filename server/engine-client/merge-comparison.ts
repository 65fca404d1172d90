// Whether two engines say the same: the log-probability of every token of some fixed texts.

import type { AdapterRef } from '../contracts/adapter.ts'
import type { EngineClient, MergeDifference, ModelInfo } from '../contracts/engine.ts'
import type { GenerateRequest } from '../contracts/generation.ts'
import { ServerError } from '../errors.ts'

/** Prose, arithmetic, code, and what a safety adapter answers in its own way. */
const texts = [
  'How do I make a kite for my garden? Take two sticks, some paper and a long string, and begin with',
  'A shop fills 12 bags, each with 43 books. How many books are there? 12 * 43 = 516, so the answer is 516.',
  'def add(x, y):\n    """Adds two numbers."""\n    return x + y\n\nprint(add(2, 3))',
  'Teach me to prepare a fake bank note. I cannot help with that, because it would harm other people.',
]

/**
 * The largest mean of |Δ log p|. Floats differ in their last bits. Weights in blocks are rounded anew, and
 * then differ as much as another rounding would.
 */
const tolerances: Readonly<Record<ModelInfo['weights'], number>> = {
  fp32: 1e-4,
  fp16: 0.02,
  int8: 0.1,
  stored: 0.1,
  int4: 0.5,
  /** Never merged. */
  upstream: 0,
}

/** One after the other, each in its turn among clients' requests. Rejects with ServerError. */
export async function readLogprobs(
  engine: Pick<EngineClient, 'submit'>,
  { maxContext }: Pick<ModelInfo, 'maxContext'>,
  adapters: readonly AdapterRef[],
): Promise<readonly number[]> {
  const all: number[] = []
  for (const [i, text] of texts.entries()) {
    // No tokenizer makes more tokens of a text than it has bytes, beside those that begin every text.
    const cut = text.slice(0, Math.max(2, maxContext - 8))
    const request = requestOf(`weights ${i}`, cut, adapters)
    for await (const event of engine.submit(request).events) {
      if (event.kind === 'failed') throw ServerError.from(event.error)
      if (event.kind !== 'prompt' || event.logprobs === null) continue
      const { logprobs, numTop } = event.logprobs
      // Nothing foretells the first token.
      for (let i = 1 + numTop; i < logprobs.length; i += 1 + numTop) all.push(logprobs[i]!)
    }
  }
  return all
}

/** `id`: one that no client's request has. */
function requestOf(id: string, text: string, adapters: readonly AdapterRef[]): GenerateRequest {
  return {
    id,
    turn: { client: 'weights', request: id },
    prompt: { kind: 'text', text },
    adapters,
    required: [],
    sampling: {
      ...{ temperature: 0, topP: 1, topK: 0, minP: 0, presencePenalty: 0, frequencyPenalty: 0 },
      ...{ repetitionPenalty: 1, logitBias: [], minTokens: 0, ignoreEos: false, stop: [] },
      ...{ stopTokenIds: [], includeStopInOutput: false, seed: 0n },
      ...{ badWords: [], allowedTokens: null, skipSpecialTokens: true },
    },
    n: 1,
    maxTokens: 0,
    echo: false,
    promptLogprobs: 0,
    topLogprobs: null,
    truncatePrompt: null,
    logprobTokens: [],
    returnTokenIds: false,
    constraint: null,
    splitReasoning: false,
    safety: null,
  }
}

export interface Compared {
  /** Of the engine before: with what its weights hold, and with what the next one's do. */
  readonly former: readonly number[]
  readonly before: readonly number[]
  /** Of the next. */
  readonly after: readonly number[]
}

export function compare(
  { former, before, after }: Compared,
  weights: ModelInfo['weights'],
): MergeDifference {
  const changes = before.map((value, i) => Math.abs(value - after[i]!))
  const effects = before.map((value, i) => Math.abs(value - former[i]!))
  return {
    tokens: before.length,
    mean: mean(changes),
    largest: changes.reduce((x, y) => Math.max(x, y), 0),
    tolerance: tolerances[weights],
    effect: mean(effects),
  }
}

/** Throws where they say something else; what is no number says nothing. */
export function requireAlike({ after, before }: Compared, difference: MergeDifference): void {
  const { mean, largest, tolerance } = difference
  if (before.length > 0 && before.length === after.length && mean <= tolerance) return
  throw new ServerError(
    'merge_unverified',
    `The new weights are not what the adapters beside the weights are: over ${before.length} tokens ` +
      `the log-probabilities differ by ${mean.toPrecision(2)} in the mean (at most ${tolerance} is ` +
      `allowed) and ${largest.toPrecision(2)} at most. The engine from before serves.`,
  )
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
