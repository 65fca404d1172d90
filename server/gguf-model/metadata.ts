// The metadata of a GGUF file behind zod: one key's group at a time, each value checked before its use.
// Errors name the file and the whole key.

import { basename } from 'node:path'
import type { z } from 'zod'
import { ServerError } from '../errors.ts'
import type { GgufFile } from '../gguf/gguf-file.ts'

export interface Metadata {
  /** All keys that begin with `prefix`, without it, checked by the schema. */
  read<T>(prefix: string, schema: z.ZodType<T>): T
  /** Ends in unsupported_checkpoint: "file: key clause". */
  refuse(key: string, clause: string): never
  /** Ends in invalid_checkpoint. */
  invalid(key: string, clause: string): never
}

export function readMetadata({ metadata, paths }: Pick<GgufFile, 'metadata' | 'paths'>): Metadata {
  const label = basename(paths[0] ?? '')

  function invalid(key: string, clause: string): never {
    throw new ServerError('invalid_checkpoint', `${label}: ${key} ${clause}.`)
  }

  return {
    read(prefix, schema) {
      const entries = [...metadata]
        .filter(([key]) => key.startsWith(prefix))
        .map(([key, value]) => [key.slice(prefix.length), value] as const)
      const result = schema.safeParse(Object.fromEntries(entries))
      if (result.success) return result.data
      const issue = result.error.issues[0]!
      const key = prefix + String(issue.path[0] ?? '')
      return metadata.has(key)
        ? invalid(key, `is wrong: ${issue.message}`)
        : invalid(key, 'is missing')
    },
    refuse(key, clause) {
      throw new ServerError('unsupported_checkpoint', `${label}: ${key} ${clause}.`)
    },
    invalid,
  }
}

/** The shortest decimal of this float32, which is what the value was before it became one. */
export function shortestDecimal(value: number): number {
  const single = Math.fround(value)
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(single.toPrecision(digits))
    if (Math.fround(short) === single) return short
  }
  return value
}
