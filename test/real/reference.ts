// What scripts/test-real.mjs has made ready: a real model's file, what transformers makes of it, and
// adapters for it.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Prompt, Reference } from '../../bench/tools/answers.ts'
import { openSafetensors } from '../../server/checkpoint/safetensors.ts'
import { linearModules } from '../../server/contracts/checkpoint.ts'
import { openServedModel, type ServedModelOptions } from '../support/served-model.ts'

interface Answer {
  readonly prompt: readonly number[]
  readonly tokens: number[]
  readonly text: string
}

interface ReferenceFile {
  readonly answers: Readonly<Record<string, readonly Answer[]>>
  readonly differingTensors: readonly string[]
}

function readPlace(): string {
  const place = process.env.DUTYFREE_REAL
  if (place !== undefined) return place
  throw new Error('these tests need what npm run test:real makes ready; run that')
}

const place = readPlace()

export const { modelPath, serverCache }: { modelPath: string; serverCache: string } = JSON.parse(
  readFileSync(join(place, 'real.json'), 'utf8'),
)
export const adaptersRoot = join(place, 'adapters')

export const { answers, differingTensors }: ReferenceFile = JSON.parse(
  readFileSync(join(place, 'reference.json'), 'utf8'),
)

export function answersOf(variant: string): readonly Answer[] {
  const found = answers[variant]
  if (found === undefined) throw new Error(`the reference has no variant ${variant}`)
  return found
}

/** Of the base or an adapter: the prompts, and the logits that each token of an answer came from. */
export function readReference(variant: string): {
  readonly prompts: readonly Prompt[]
  readonly references: readonly Reference[]
} {
  const path = join(place, 'logits.safetensors')
  const file = openSafetensors(path, { code: 'invalid_checkpoint' })
  try {
    const references = answersOf(variant).map(({ tokens }, i) => {
      const all = file.readFloat32(`${variant}.${i}`)
      const size = all.length / tokens.length
      return { tokens, logits: tokens.map((_, t) => all.subarray(t * size, (t + 1) * size)) }
    })
    return { prompts: answersOf(variant).map(({ prompt }) => prompt), references }
  } finally {
    file.close()
  }
}

export function openRealModel(options: Pick<ServedModelOptions, 'format'>) {
  return openServedModel({
    checkpoint: modelPath,
    adapters: adaptersRoot,
    cacheDir: join(place, 'cache'),
    sites: linearModules,
    threads: 2,
    ...options,
  })
}
