// A request body after its schema: what both completion routes and their requests have in common.

import type { z } from 'zod'
import type { AdapterSelection } from '../../contracts/adapter.ts'
import type { GenerateRequest } from '../../contracts/generation.ts'
import type { JsonObject } from '../../contracts/json.ts'
import { fieldError } from './field-error.ts'
import { type ReadFields, readFields, spelledOut } from './field-rules.ts'
import type { RouteKind } from './field-verdict.ts'

export interface ParsedRequest<Fields> {
  readonly fields: Fields
  /** How its fields were named. */
  readonly read: ReadFields
  /** One per prompt, but for ids, turns, adapters and who judges. */
  readonly requests: ReadonlyArray<
    Omit<GenerateRequest, 'id' | 'turn' | 'safety' | keyof AdapterSelection>
  >
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

/** What `parse` makes of a body's fields; an error of it names them as the request spells them. */
export function parseBody<Parsed>(
  body: JsonObject,
  route: RouteKind,
  parse: (read: ReadFields) => Parsed,
): Parsed {
  const read = readFields(body, route)
  try {
    return parse(read)
  } catch (error) {
    throw spelledOut(error, read)
  }
}
