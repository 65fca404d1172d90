// One model's greedy answers, and how far another model's next-token distributions are from those
// along the same answers: each is fed them token by token.

import type { ScaledRankOne } from '../../server/contracts/adapter.ts'
import { type openServedModel, topTwo } from '../../test/support/served-model.ts'

/** Prompts that run in one batch. */
export const rows = 8
/** Of an answer, unless said. */
export const mostTokens = 200

export type Model = Awaited<ReturnType<typeof openServedModel>>
export type Prompt = readonly number[]

/** An answer of the float32 model, its end token included, and the logits each token came from. */
export interface Reference {
  readonly tokens: number[]
  readonly logits: Float32Array[]
}

export interface Comparison {
  readonly meanKl: number
  /** The one position in a hundred above which the divergence lies. */
  readonly p99Kl: number
  readonly maxKl: number
  readonly sameTokens: number
  readonly sameAnswers: number
}

/** Shows every position's logits to `next`, which gives the token to go on with or null to end. */
async function walk(
  model: Model,
  prompts: readonly Prompt[],
  next: (prompt: number, logits: Float32Array) => number | null,
  components: readonly ScaledRankOne[] = [],
): Promise<void> {
  const { runner, config } = model
  for (let first = 0; first < prompts.length; first += rows) {
    const group = prompts.slice(first, first + rows)
    const pending: (number | null)[] = []
    const batch = group.map((tokens) => ({ token: 0, past: tokens.length - 1, components }))
    for (const [row, tokens] of group.entries()) {
      const logits = await runner.prefill({ row, tokens, past: 0, components })
      pending[row] = next(first + row, logits)
    }
    while (pending.some((token) => token !== null)) {
      // A row that has ended computes its last token again, at the same place.
      for (const [row, state] of batch.entries()) {
        const token = pending[row] ?? null
        if (token !== null) batch[row] = { ...state, token, past: state.past + 1 }
      }
      const logits = await runner.decode(batch)
      for (const row of batch.keys()) {
        if (pending[row] === null) continue
        const own = logits.subarray(row * config.vocabSize, (row + 1) * config.vocabSize)
        pending[row] = next(first + row, own)
      }
    }
  }
}

export async function answer(
  model: Model,
  prompts: readonly Prompt[],
  eos: readonly number[],
  maxTokens = mostTokens,
  components: readonly ScaledRankOne[] = [],
): Promise<Reference[]> {
  const references = prompts.map((): Reference => ({ tokens: [], logits: [] }))
  function next(prompt: number, logits: Float32Array): number | null {
    const { tokens, logits: kept } = references[prompt]!
    const { token } = topTwo(logits)
    kept.push(logits.slice())
    tokens.push(token)
    return eos.includes(token) || tokens.length === maxTokens ? null : token
  }
  await walk(model, prompts, next, components)
  return references
}

export async function compare(
  model: Model,
  prompts: readonly Prompt[],
  references: readonly Reference[],
  components: readonly ScaledRankOne[] = [],
): Promise<Comparison> {
  const steps = references.map(() => 0)
  const differs = new Set<number>()
  const divergences: number[] = []
  let same = 0
  function next(prompt: number, logits: Float32Array): number | null {
    const { tokens, logits: wanted } = references[prompt]!
    const step = steps[prompt]!++
    divergences.push(divergence(wanted[step]!, logits))
    if (topTwo(logits).token === topTwo(wanted[step]!).token) same++
    else differs.add(prompt)
    return step + 1 < tokens.length ? tokens[step]! : null
  }
  await walk(model, prompts, next, components)
  const count = divergences.length
  const ascending = Float64Array.from(divergences).sort()
  return {
    meanKl: divergences.reduce((sum, kl) => sum + kl, 0) / count,
    p99Kl: ascending[Math.floor(count * 0.99)] ?? 0,
    maxKl: ascending.at(-1) ?? 0,
    sameTokens: same / count,
    sameAnswers: 1 - differs.size / references.length,
  }
}

/** KL(p ‖ q) of two softmaxes, in nats. */
function divergence(p: Float32Array, q: Float32Array): number {
  const [logP, logQ] = [logSoftmax(p), logSoftmax(q)]
  let sum = 0
  for (const [i, value] of logP.entries()) sum += Math.exp(value) * (value - logQ[i]!)
  return Math.max(0, sum)
}

function logSoftmax(logits: Float32Array): Float64Array {
  const values = Float64Array.from(logits)
  const most = values.reduce((x, y) => Math.max(x, y))
  const total = values.reduce((sum, value) => sum + Math.exp(value - most), 0)
  return values.map((value) => value - most - Math.log(total))
}
