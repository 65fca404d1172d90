// Where scripts/test-real.mjs keeps what the tests share: the real model's file, adapters for it,
// conversions.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { linearModules } from '../../server/contracts/checkpoint.ts'
import { openServedModel, type ServedModelOptions } from '../support/served-model.ts'

function readPlace(): string {
  const place = process.env.DUTYFREE_REAL
  if (place !== undefined) return place
  throw new Error('these tests need what npm run test:real makes ready; run that')
}

export const place = readPlace()
export const { modelPath }: { readonly modelPath: string } = JSON.parse(
  readFileSync(join(place, 'real.json'), 'utf8'),
)
export const adaptersRoot = join(place, 'adapters')
export const cacheDir = join(place, 'cache')
export const answersPath = join(place, 'answers.json')

/** What the model is asked, and the tokens it answers with: alone, and with each adapter. */
export interface AnswersFile {
  readonly prompts: readonly string[]
  readonly answers: Readonly<Record<string, readonly (readonly number[])[]>>
}

export function openRealModel(options: Pick<ServedModelOptions, 'format'>) {
  return openServedModel({
    checkpoint: modelPath,
    adapters: adaptersRoot,
    cacheDir,
    sites: linearModules,
    ...options,
  })
}
