// What tells one base from another from outside: the log-probabilities that it gives the tokens of fixed
// texts. Adapters are told by the same: one that changes none of them is not applied.

import { existsSync, linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { z } from 'zod'
import { makeFolder } from '../checkpoint/make-folder.ts'
import { ServerError } from '../errors.ts'
import type { RankedPlace } from '../sampling/logprobs.ts'

/** Plain prose, code and another script: bases of one family differ on some of it. */
export const fixedTexts = [
  'The committee met on Tuesday and agreed, after some discussion, that the bridge would be closed ' +
    'to heavy vehicles until the engineers had measured the third pillar again.',
  'def mean(values):\n    return sum(values) / len(values)\n\n# 平均値を計算する\nprint(mean([3, 5, 10]))',
] as const

export interface Fingerprint {
  /** Of each fixed text: its tokens, and the log-probability of each after the first. */
  readonly texts: readonly {
    readonly tokens: readonly number[]
    readonly logprobs: readonly number[]
  }[]
}

const fingerprintSchema = z.object({
  /** SHA-256 of the base's weights, where they were there. */
  base: z.string().nullable(),
  texts: z.array(z.object({ tokens: z.array(z.int()), logprobs: z.array(z.number()) })),
})

/** Mean difference a token that types of weights, kernels and batches explain; another base is beyond. */
const mostDifference = 0.1

export function logprobsOfPlaces(places: readonly RankedPlace[]): number[] {
  return places.map(({ sampled }) => sampled.logprob)
}

/** Mean |Δ| a token; NaN where one of them is no number, or they are of other texts. */
function differenceOf(x: Fingerprint, y: Fingerprint): number {
  const [left, right] = [x, y].map(({ texts }) => texts)
  let [sum, count] = [0, 0]
  for (const [i, { tokens, logprobs }] of left!.entries()) {
    const other = right![i]
    if (other?.tokens.join() !== tokens.join()) return Number.NaN
    for (const [at, logprob] of logprobs.entries()) {
      sum += Math.abs(logprob - other.logprobs[at]!)
      count++
    }
  }
  return sum / count
}

/** False also where a number is none. */
export function isSameBase(x: Fingerprint, y: Fingerprint): boolean {
  return differenceOf(x, y) <= mostDifference
}

/**
 * Compares with what the file says, or writes it where there is none. `base`: digest of the weights;
 * null: not known. Throws ServerError where they differ.
 */
export function checkRecorded(
  path: string,
  seen: Fingerprint,
  base: string | null,
): 'same' | 'recorded' {
  if (!existsSync(path) && record(path, { base, ...seen })) return 'recorded'
  const recorded = readRecorded(path)
  if (recorded.base !== null && base !== null && recorded.base !== base) {
    refuse('is of another checkpoint than --model')
  }
  if (!isSameBase(recorded, seen)) {
    const difference = differenceOf(recorded, seen)
    refuse(`differs from what the upstream says, by ${difference.toFixed(3)} a token`)
  }
  return 'same'
}

/** The digest of the weights that it was recorded beside; null: it is not there, or does not say. */
export function recordedBase(path: string): string | null {
  return existsSync(path) ? readRecorded(path).base : null
}

/** Whole or not at all; false: another front was first. */
function record(path: string, content: object): boolean {
  makeFolder(dirname(path))
  const staged = `${path}.${process.pid}`
  writeFileSync(staged, `${JSON.stringify(content)}\n`)
  try {
    linkSync(staged, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    rmSync(staged)
  }
}

function readRecorded(path: string) {
  try {
    return fingerprintSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch (cause) {
    throw new ServerError('invalid_config', 'The recorded fingerprint cannot be read.', { cause })
  }
}

function refuse(what: string): never {
  throw new ServerError(
    'invalid_config',
    `The base's fingerprint (--upstream-fingerprint, or in --cache-dir) ${what}: serve the same ` +
      'checkpoint on both sides, or delete the record where the base was changed on purpose.',
  )
}

/** Identical to every digit at strengths above this, an adapter was not applied. */
const leastTelling = 0.1

/** Throws ServerError where the adapter was not applied, or makes no numbers. */
export function checkCanary(
  base: readonly number[],
  adapted: readonly number[],
  { strength }: { readonly strength: number },
): void {
  const isSame = base.length === adapted.length && base.every((x, i) => x === adapted[i])
  const isNumeric = adapted.every(Number.isFinite)
  if (isNumeric && !(isSame && strength >= leastTelling)) return
  throw new ServerError(
    'adapter_unavailable',
    isNumeric
      ? 'The upstream took the adapter and does not apply it: its --lora-target-modules must name ' +
          "the adapter's modules."
      : 'With this adapter the upstream gives log-probabilities that are no numbers.',
  )
}
