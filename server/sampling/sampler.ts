// From logits to a token. Pure: what was generated so far, the parameters and a uniform number go
// in, a token comes out. Order: penalties, bias, grammar, temperature, top_k, top_p, min_p.

import type { AllowedTokens } from '../contracts/constraint.ts'
import type { SamplingParams } from '../contracts/generation.ts'
import { pickLogits } from './allowed-tokens.ts'
import { dropNegligible, packLogitBlocks, type UsedLogits } from './logit-blocks.ts'
import { massOf, stepsPerLogit, weightOf } from './softmax.ts'
import { findKept, type KeptTokens } from './top-k-top-p.ts'

export interface SamplerInput {
  /** [vocab]; never written. */
  readonly logits: Float32Array
  /** The largest of each block of them, [blocks], where that is known. */
  readonly blockMax: Float32Array | null
  readonly params: SamplingParams
  /** How often each token was generated. */
  readonly outputCounts: ReadonlyMap<number, number>
  /** Distinct tokens of the prompt; only read when repetitionPenalty is not 1. */
  readonly promptTokens: ReadonlySet<number>
  /** Tokens that must not come now: end tokens below min_tokens, the last token of a bad word. */
  readonly forbidden: readonly number[]
  /** Absent: any other token may come. */
  readonly only?: OnlyTokens | undefined
  /** In [0, 1). */
  readonly uniform: () => number
}

interface OnlyTokens {
  readonly allowed: AllowedTokens
  /** Tokens beside those of the text. */
  readonly others: readonly number[]
}

/** Thrown when the graph gave no number at all: a broken weight or adapter. */
export class NonFiniteLogitsError extends Error {
  override readonly name = 'NonFiniteLogitsError'
}

/** Thrown when what a request forbids leaves nothing to sample. */
export class NoTokenLeftError extends Error {
  override readonly name = 'NoTokenLeftError'
}

export function sample(input: SamplerInput): number {
  const { params } = input
  const adjusted = adjustLogits(input)
  if (input.only !== undefined) return sampleOnly(input, adjusted, input.only)
  // What was adjusted has other maxima.
  const blockMax = adjusted === input.logits ? input.blockMax : null
  const { top, id } = findByBlock(adjusted, blockMax) ?? findBest(adjusted)
  if (params.temperature === 0) return id
  const { logits, idOf } = packLogitBlocks(adjusted, blockMax, {
    top,
    temperature: params.temperature,
  })
  return drawFrom({ logits, idOf }, top, input)
}

/** One of the tokens that a grammar lets through. */
function sampleOnly(
  input: SamplerInput,
  adjusted: Float32Array,
  { allowed, others }: OnlyTokens,
): number {
  const used = pickLogits(adjusted, allowed, others, input.forbidden)
  requireSome(used.logits)
  const { top, id } = findBest(used.logits)
  const { temperature } = input.params
  if (temperature === 0) return used.idOf(id)
  return drawFrom(dropNegligible(used, { top, temperature }), top, input)
}

function drawFrom({ logits, idOf }: UsedLogits, top: number, { params, uniform }: SamplerInput) {
  const scale = stepsPerLogit(params.temperature)
  const isWhole = params.topK === 0 && params.topP === 1
  const kept = isWhole ? wholeOf(logits, top, scale) : findKept(logits, params, top, scale)
  return idOf(draw(logits, { ...kept, top, scale, minP: params.minP }, uniform()))
}

interface Best {
  readonly top: number
  /** The first that has it. */
  readonly id: number
}

/** Looks into one block only. Undefined when the blocks do not tell, or tell of no number. */
function findByBlock(logits: Float32Array, blockMax: Float32Array | null): Best | undefined {
  if (blockMax === null || blockMax.length === logits.length) return undefined
  let top = Number.NEGATIVE_INFINITY
  let block = 0
  for (let i = 0; i < blockMax.length; i++) {
    const max = blockMax[i]!
    if (max <= top) continue
    if (!Number.isFinite(max)) return undefined
    top = max
    block = i
  }
  if (top === Number.NEGATIVE_INFINITY) return undefined
  const size = logits.length / blockMax.length
  const id = logits.indexOf(top, block * size)
  return id >= 0 && id < (block + 1) * size ? { top, id } : undefined
}

function findBest(logits: Float32Array): Best {
  const top = largest(logits)
  return { top, id: logits.indexOf(top) }
}

/** The largest logit. Throws NonFiniteLogitsError on NaN, +∞ or nothing but −∞. */
function largest(logits: Float32Array): number {
  // Two lanes: each comparison of one lane has to wait for the one before.
  let even = Number.NEGATIVE_INFINITY
  let odd = Number.NEGATIVE_INFINITY
  for (let id = 0; id < logits.length; id += 2) {
    const a = logits[id]!
    const b = id + 1 < logits.length ? logits[id + 1]! : a
    // Not "a > even": NaN must not slip through.
    if (!(a <= even)) even = Number.isNaN(a) ? refuse('NaN') : a
    if (!(b <= odd)) odd = Number.isNaN(b) ? refuse('NaN') : b
  }
  const top = Math.max(even, odd)
  return Number.isFinite(top) ? top : refuse('infinite')
}

function refuse(what: string): never {
  throw new NonFiniteLogitsError(`the model gave ${what} logits`)
}

function adjustLogits(input: SamplerInput): Float32Array {
  const { params, outputCounts, promptTokens, forbidden } = input
  const repeats = params.repetitionPenalty !== 1
  const counts = params.presencePenalty !== 0 || params.frequencyPenalty !== 0
  const { allowedTokens } = params
  const forbids = forbidden.length > 0 || allowedTokens !== null
  if (!repeats && !counts && params.logitBias.length === 0 && !forbids) return input.logits
  const logits = allowedTokens === null ? input.logits.slice() : only(allowedTokens, input.logits)
  if (repeats) {
    const seen = new Set([...promptTokens, ...outputCounts.keys()])
    for (const id of seen) {
      const logit = logits[id] ?? 0
      logits[id] = logit > 0 ? logit / params.repetitionPenalty : logit * params.repetitionPenalty
    }
  }
  for (const [id, count] of counts ? outputCounts : []) {
    logits[id] = (logits[id] ?? 0) - params.presencePenalty - params.frequencyPenalty * count
  }
  for (const [id, bias] of params.logitBias) logits[id] = (logits[id] ?? 0) + bias
  for (const id of forbidden) logits[id] = Number.NEGATIVE_INFINITY
  if (forbids) requireSome(logits)
  return logits
}

function requireSome(logits: Float32Array): void {
  if (logits.some((logit) => logit !== Number.NEGATIVE_INFINITY)) return
  throw new NoTokenLeftError('what the request forbids leaves no token')
}

/** The logits of these tokens, −∞ for all others. */
function only(tokens: readonly number[], logits: Float32Array): Float32Array {
  const kept = new Float32Array(logits.length).fill(Number.NEGATIVE_INFINITY)
  for (const id of tokens) kept[id] = logits[id]!
  return kept
}

function wholeOf(logits: Float32Array, top: number, scale: number): KeptTokens {
  return {
    least: Number.NEGATIVE_INFINITY,
    numLeast: logits.length,
    mass: massOf(logits, top, scale),
  }
}

interface Draw extends KeptTokens {
  readonly top: number
  readonly scale: number
  readonly minP: number
}

/** The token at which `uniform` of the kept mass is passed, going by id. */
function draw(logits: Float32Array, kept: Draw, uniform: number): number {
  const mass = kept.minP > 0 ? walk(logits, kept, Number.POSITIVE_INFINITY).passed : kept.mass
  return walk(logits, kept, uniform * mass).id
}

/** Goes through the kept tokens until more than `end` of their weights is passed. */
function walk(
  logits: Float32Array,
  { least, numLeast, top, scale, minP }: Draw,
  end: number,
): { id: number; passed: number } {
  let numTies = numLeast
  let passed = 0
  let last = 0
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!
    if (logit < least || (logit === least && numTies-- <= 0)) continue
    const weight = weightOf((top - logit) * scale)
    if (weight === 0 || weight < minP) continue
    passed += weight
    last = id
    if (passed > end) break
  }
  return { id: last, passed }
}
