// The fields of a change, by its schema; a field that the schema does not know is named.

import type { z } from 'zod'
import { ServerError } from '../../errors.ts'
import { fieldError } from '../request/field-error.ts'
import { quote } from '../request/quote.ts'

/** Throws ServerError. */
export function parseChange<Schema extends z.ZodObject>(
  schema: Schema,
  body: object,
): z.infer<Schema> {
  const { success, data, error } = schema.safeParse(body)
  if (success) return data
  const [unknown] = error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys' ? issue.keys : [],
  )
  if (unknown === undefined) throw fieldError(error, body)
  throw new ServerError('unsupported_parameter', `there is no field ${quote(unknown)} here`, {
    param: unknown,
  })
}
