// Which target each batch is given to. The seed of a batch says its target and all its inputs, so a
// batch is repeated by its seed, and a run goes on from any seed.

import { adapterTarget, configTarget, safetensorsTarget } from './file-targets.ts'
import { frontTarget } from './front-target.ts'
import { ggufTarget } from './gguf-target.ts'
import { serverTarget } from './server-target.ts'
import { socketTarget } from './socket-target.ts'
import type { Target } from './target.ts'
import { templateTarget, tokenizerTarget } from './tokenizer-targets.ts'

export const batchSize = 250

// Of 40 batches; the slow ones are few.
const shares: readonly (readonly [Target<unknown>, number])[] = [
  [frontTarget, 13],
  [safetensorsTarget, 5],
  [ggufTarget, 3],
  [adapterTarget, 4],
  [configTarget, 4],
  [tokenizerTarget, 5],
  [templateTarget, 3],
  [socketTarget, 2],
  [serverTarget, 1],
]
const turns = shares.flatMap(([target, count]) => Array<Target<unknown>>(count).fill(target))

export const targetNames = shares.map(([{ name }]) => name)

export function targetOf(seed: number, names: readonly string[]): Target<unknown> {
  const chosen = names.length > 0 ? turns.filter(({ name }) => names.includes(name)) : turns
  return chosen[seed % chosen.length]!
}
