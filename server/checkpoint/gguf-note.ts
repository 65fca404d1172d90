// The note in a folder that was exported from a GGUF file: which file it came from, and which weights
// it was written with. The folder then counts as that file, for adapters, while its weights are those.
// Like an adapter's manifest it guards against mix-ups, not against whoever can write the folder.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { parseJson, readJson } from './json.ts'

export const noteName = 'gguf.json'

const digest = z.string().regex(/^[0-9a-f]{64}$/)
const noteSchema = z.looseObject({
  /** The file's name, for people. */
  source: z.string(),
  /** What baseDigestOf gives for the GGUF file. */
  base_digest: digest,
  /** What it gives for the safetensors that were written beside the note. */
  weights_digest: digest,
  dtype: z.string(),
})
export type GgufNote = z.infer<typeof noteSchema>

/**
 * The digest that adapters know a checkpoint by: that of its weights, or of the GGUF file that these very
 * weights were exported from. Throws ServerError for a note that is no such note.
 */
export function attestedDigest(
  path: string,
  weightsDigest: string,
  onNotice: (message: string) => void,
): string {
  const notePath = join(path, noteName)
  if (!existsSync(notePath)) return weightsDigest
  const note = parseJson(noteSchema, readJson(notePath), noteName)
  if (note.weights_digest === weightsDigest) return note.base_digest
  onNotice(
    `${noteName} was written for other weights than lie beside it: it does not count, and adapters ` +
      'trained on the exported folder do not fit.',
  )
  return weightsDigest
}
