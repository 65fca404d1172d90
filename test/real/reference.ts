// What transformers and PEFT make of the real model's file (training/tests/real_reference.py).

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Prompt, Reference } from '../../bench/tools/answers.ts'
import { openSafetensors } from '../../server/checkpoint/safetensors.ts'
import { type AnswersFile, answersPath, place } from './place.ts'

interface ReferenceFile {
  /** Tokens, by the chat template. */
  readonly prompts: readonly Prompt[]
  /** Of the answers, by variant: the base or an adapter. */
  readonly texts: Readonly<Record<string, readonly string[]>>
  /** Tensors of the exported folder that are not the same bits. */
  readonly differingTensors: readonly string[]
}

export const reference: ReferenceFile = JSON.parse(
  readFileSync(join(place, 'reference.json'), 'utf8'),
)
const { answers }: AnswersFile = JSON.parse(readFileSync(answersPath, 'utf8'))
export const adapterIds = Object.keys(answers).filter((id) => id !== 'base')

/** The tokens of each answer, and the logits that each would be chosen from. */
export function readReference(variant: string): {
  readonly prompts: readonly Prompt[]
  readonly references: readonly Reference[]
} {
  const path = join(place, 'logits.safetensors')
  const file = openSafetensors(path, { code: 'invalid_checkpoint' })
  try {
    const references = answers[variant]!.map((tokens, i) => {
      const all = file.readFloat32(`${variant}.${i}`)
      const size = all.length / tokens.length
      const logits = tokens.map((_, t) => all.subarray(t * size, (t + 1) * size))
      return { tokens: [...tokens], logits }
    })
    return { prompts: reference.prompts.slice(0, references.length), references }
  } finally {
    file.close()
  }
}
