// Whether `--weights stored` can be had: our own kernels, and a GGUF file with formats that they read.

import { expectedTensors } from '../checkpoint/checkpoint-tensors.ts'
import type { Kernels, ModelConfig, TensorSource } from '../contracts/checkpoint.ts'
import type { Device } from '../contracts/engine.ts'
import { isStoredType, storedBlocks } from '../contracts/stored-blocks.ts'
import { ServerError } from '../errors.ts'

interface Source {
  readonly config: ModelConfig
  readonly tensors: TensorSource
}

/** Format and size of each matrix that the graph reads; none where files have no such formats. */
function matricesOf({ config, tensors }: Source): Array<{ type: string; elements: number }> {
  const { stored } = tensors
  if (stored === undefined) return []
  return [...expectedTensors(config)].flatMap(([name, shape]) => {
    const [rows = 0, columns] = shape
    return columns === undefined ? [] : [{ type: stored(name).type, elements: rows * columns }]
  })
}

/** Whether the kernels can keep the numbers of most of the weights. */
export function isMostlyStored(source: Source): boolean {
  let balance = 0
  for (const { type, elements } of matricesOf(source)) {
    balance += isStoredType(type) ? elements : -elements
  }
  return balance > 0
}

/** Throws what is missing; returns what an operator should know: matrices that are rounded once more. */
export function requireStored(
  { config, tensors }: Source,
  { name: device }: { readonly name: Device },
  kernels: Kernels | null,
): string | null {
  if (kernels !== 'own') {
    throw refusal(
      kernels === null
        ? `is for --device cpu and this is ${device}; use fp16, int8 or int4`
        : "needs our own kernels and ONNX Runtime's compute here; use --kernels own, which says what it " +
            'lacks, or --weights int8',
    )
  }
  if (tensors.stored === undefined) {
    throw refusal('is for a GGUF file and this is a folder of safetensors; use fp32, int8 or int4')
  }
  const kept = new Map<string, number>()
  const others = new Map<string, number>()
  for (const { type } of matricesOf({ config, tensors })) {
    const counts = isStoredType(type) ? kept : others
    counts.set(type, (counts.get(type) ?? 0) + 1)
  }
  if (kept.size === 0) {
    const known = Object.keys(storedBlocks).join(', ')
    throw refusal(
      `keeps matrices of ${known}, and this file has ${list(others)}; use fp32, int8 or int4`,
    )
  }
  if (others.size === 0) return null
  return (
    `--weights stored keeps the file's numbers in ${list(kept)}; its kernels cannot hold those of ` +
    `${list(others)}, which are rounded to int8 in blocks of 32.`
  )
}

/** "210 matrices of Q4_1, 1 of Q8_0", the most frequent first. */
function list(counts: ReadonlyMap<string, number>): string {
  const [first, ...rest] = [...counts].sort((x, y) => y[1] - x[1])
  if (first === undefined) return 'none'
  const [type, count] = first
  const noun = count === 1 ? 'matrix' : 'matrices'
  return [`${count} ${noun} of ${type}`, ...rest.map(([t, n]) => `${n} of ${t}`)].join(', ')
}

function refusal(rest: string): ServerError {
  return new ServerError('invalid_config', `--weights stored ${rest}.`)
}
