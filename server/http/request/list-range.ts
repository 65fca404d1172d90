// ?limit and ?after of a list in pages, as OpenAI's lists have them.

import { ServerError } from '../../errors.ts'
import { quote } from './quote.ts'

export interface ListRange {
  readonly after: string | undefined
  readonly limit: number
}

/** `maxLimit` is also what comes where no limit is given. */
export function readRange(
  { limit: text, after }: Readonly<Record<string, string>>,
  maxLimit: number,
): ListRange {
  const limit = text === undefined ? maxLimit : /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (limit < 1 || limit > maxLimit) {
    throw new ServerError(
      'invalid_value',
      `limit must be a whole number from 1 to ${maxLimit}; got ${quote(text)}`,
      { param: 'limit' },
    )
  }
  return { after, limit }
}
