// What top_k and top_p leave of a vocabulary, without sorting it. Both keep the head of the tokens in
// descending order, so the search is for where that head ends: tokens are counted and weighed in
// buckets of like logits, and only the bucket in which the head ends is sorted.

import type { SamplingParams } from '../contracts/generation.ts'
import { numSteps, weightOf } from './softmax.ts'

/** The head of the descending order: equal logits come in the order of their ids. */
export interface KeptTokens {
  /** The smallest logit in it. */
  readonly least: number
  /** How many tokens of exactly that logit are in it: those of the lowest ids. */
  readonly numLeast: number
  /** The sum of its weights. */
  readonly mass: number
}

type IsEnough = (count: number, mass: number) => boolean

const bucketShift = 3
const numBuckets = numSteps >> bucketShift
// One search at a time, so the buckets can be kept.
const counts = new Int32Array(numBuckets)
const masses = new Float64Array(numBuckets)

/** `top` is the largest logit; `scale` is stepsPerLogit of the temperature. */
export function findKept(
  logits: Float32Array,
  { topK, topP }: Pick<SamplingParams, 'topK' | 'topP'>,
  top: number,
  scale: number,
): KeptTokens {
  const total = fillBuckets(logits, top, scale)
  const all = { least: Number.NEGATIVE_INFINITY, numLeast: logits.length, mass: total }
  const find = (isEnough: IsEnough) => findEnd(logits, isEnough, top, scale) ?? all
  const best = topK > 0 ? find((count) => count >= topK) : all
  if (topP === 1) return best
  // top_p shares out what top_k left.
  const wanted = topP * best.mass
  return find((count, mass) => mass >= wanted || (topK > 0 && count >= topK))
}

/** Counts and weighs the tokens by their distance from the top; returns the mass of all. */
function fillBuckets(logits: Float32Array, top: number, scale: number): number {
  counts.fill(0)
  masses.fill(0)
  let total = 0
  for (let id = 0; id < logits.length; id++) {
    const steps = (top - logits[id]!) * scale
    if (!(steps < numSteps)) continue
    const weight = weightOf(steps)
    const bucket = steps >> bucketShift
    counts[bucket] = counts[bucket]! + 1
    masses[bucket] = masses[bucket]! + weight
    total += weight
  }
  return total
}

/** The shortest head that is enough; undefined when not even all tokens are. */
function findEnd(
  logits: Float32Array,
  isEnough: IsEnough,
  top: number,
  scale: number,
): KeptTokens | undefined {
  let count = 0
  let mass = 0
  let bucket = 0
  for (; bucket < numBuckets; bucket++) {
    const countAfter = count + counts[bucket]!
    const massAfter = mass + masses[bucket]!
    if (isEnough(countAfter, massAfter)) break
    count = countAfter
    mass = massAfter
  }
  if (bucket === numBuckets) return undefined
  let least = Number.NaN
  let numLeast = 0
  for (const logit of descendingIn(logits, bucket, top, scale)) {
    numLeast = logit === least ? numLeast + 1 : 1
    least = logit
    mass += weightOf((top - logit) * scale)
    if (isEnough(++count, mass)) break
  }
  return { least, numLeast, mass }
}

function descendingIn(
  logits: Float32Array,
  bucket: number,
  top: number,
  scale: number,
): Float32Array {
  const values = new Float32Array(counts[bucket]!)
  let size = 0
  let areAlike = true
  // Most tokens are far below: one comparison, a bucket too low for rounding's sake, tells.
  const floor = top - ((bucket + 2) << bucketShift) / scale
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!
    if (logit < floor) continue
    const steps = (top - logit) * scale
    if (!(steps < numSteps) || steps >> bucketShift !== bucket) continue
    values[size++] = logit
    areAlike &&= logit === values[0]
  }
  // A typed array sorts numbers natively; objects would take ten times as long.
  return areAlike ? values : values.sort().reverse()
}
