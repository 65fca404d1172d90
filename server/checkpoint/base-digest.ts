// The digest that identifies a base model, as the trainer writes it into an adapter's manifest.json
// (trainer/weights/base_digest.py). Made of the files' own hashes, which are kept: it costs no
// further pass over the weights.

import { createHash } from 'node:crypto'

const weightsEnding = /\.(safetensors|gguf)$/i

/**
 * The SHA-256 of the one safetensors or GGUF file, or that of the shards' hex SHA-256s joined in the
 * order of their names. Other files (config.json, the index) have no part in it.
 */
export function baseDigestOf(
  files: ReadonlyArray<{ readonly name: string; readonly sha256: string }>,
): string {
  const weights = files
    .filter(({ name }) => weightsEnding.test(name))
    .sort((x, y) => (x.name < y.name ? -1 : 1))
    .map(({ sha256 }) => sha256)
  if (weights.length === 1) return weights[0]!
  return createHash('sha256').update(weights.join('')).digest('hex')
}
