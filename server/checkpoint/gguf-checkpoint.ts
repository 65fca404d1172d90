// A checkpoint in one GGUF file (or its parts): what a folder says in JSON files is in its metadata.

import { basename } from 'node:path'
import { ServerError } from '../errors.ts'
import { findDequantizer, readableTypes } from '../gguf/dequantize.ts'
import { type GgufFile, openGguf } from '../gguf/gguf-file.ts'
import { readGgufGeneration } from '../gguf-model/generation.ts'
import { type GgufWeights, readGgufWeights } from '../gguf-model/tensors.ts'
import type { Weights } from './weights.ts'

export interface GgufCheckpoint {
  /** config.json and generation_config.json. */
  readonly configJson: unknown
  readonly generationJson: unknown
  readonly weights: Weights
}

export function openGgufCheckpoint(path: string): GgufCheckpoint {
  const file = openGguf(path)
  try {
    const weights = readGgufWeights(file)
    requireReadable(file)
    return {
      configJson: weights.config,
      generationJson: readGgufGeneration(file),
      weights: toWeights(file, weights),
    }
  } catch (error) {
    file.close()
    throw error
  }
}

/** Before the first gigabyte is converted. */
function requireReadable({ tensors, paths }: GgufFile): void {
  for (const [name, { type }] of tensors) {
    if (findDequantizer(type) !== undefined) continue
    throw new ServerError(
      'unsupported_checkpoint',
      `${basename(paths[0]!)}: tensor ${JSON.stringify(name)} is of ${type}; ` +
        `${readableTypes.join(', ')} are supported.`,
    )
  }
}

function toWeights(file: GgufFile, weights: GgufWeights): Weights {
  const { tensors, read, readRows, readStoredRows } = weights

  function requireTensor(name: string) {
    const tensor = tensors.get(name)
    if (tensor !== undefined) return tensor
    throw new ServerError(
      'invalid_checkpoint',
      `${basename(file.paths[0]!)} has no tensor ${JSON.stringify(name)}.`,
    )
  }

  return {
    paths: file.paths,
    // Whatever they are stored as, they are read as float32.
    stored: new Map([...tensors].map(([name, { shape }]) => [name, { dtype: 'F32', shape }])),
    tensors: {
      has: (name) => tensors.has(name),
      shape: (name) => requireTensor(name).shape,
      read,
      readRows,
      stored: (name) => ({
        type: requireTensor(name).type,
        readRows: (first, count) => readStoredRows(name, first, count),
      }),
    },
    close: () => file.close(),
  }
}
