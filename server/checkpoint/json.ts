// JSON files of a checkpoint folder: read, checked by a schema, and quoted in messages.

import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import type { z } from 'zod'
import { ServerError } from '../errors.ts'

/** Reads one of the checkpoint's own JSON files. */
export function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    const why = error instanceof SyntaxError ? 'it is not JSON' : 'it cannot be read'
    throw new ServerError('invalid_checkpoint', `${basename(path)}: ${why}.`, { cause: error })
  }
}

/** What a file must hold. The error names the file, the first wrong field and its rule. */
export function parseJson<T>(schema: z.ZodType<T>, json: unknown, file: string): T {
  const result = schema.safeParse(json)
  if (result.success) return result.data
  const issue = result.error.issues[0]!
  const field = issue.path.length > 0 ? ` ${issue.path.join('.')}:` : ''
  throw new ServerError('invalid_checkpoint', `${file}:${field} ${issue.message}.`)
}
