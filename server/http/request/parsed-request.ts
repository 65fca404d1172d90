// A request body after its schema: what both completion routes and their requests have in common.

import type { z } from 'zod'
import type { AdapterSelection } from '../../contracts/adapter.ts'
import type { GenerateRequest } from '../../contracts/generation.ts'
import type { JsonObject } from '../../contracts/json.ts'
import { fieldError } from './field-error.ts'

export interface ParsedRequest<Fields> {
  readonly fields: Fields
  /** Names of unknown fields, for the log. */
  readonly unknown: readonly string[]
  /** One per prompt, but for ids, turns and adapters. */
  readonly requests: ReadonlyArray<Omit<GenerateRequest, 'id' | 'turn' | keyof AdapterSelection>>
}

/** Throws ServerError at the first wrong field. */
export function parseFields<Schema extends z.ZodObject>(
  schema: Schema,
  body: JsonObject,
): z.infer<Schema> {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  throw fieldError(result.error, body)
}
