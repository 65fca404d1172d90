// OpenAI's lists in pages: ?limit and ?after come in; has_more, first_id and last_id go out.

import { ServerError } from '../errors.ts'
import type { AdapterRange } from './adapter-list.ts'
import type { RequestContext } from './context.ts'
import { quote } from './request/quote.ts'

/** `maxLimit` is also what comes where no limit is given. */
export function readRange(context: RequestContext, maxLimit: number): AdapterRange {
  const { limit: text, after } = context.req.query()
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

export function listPage<T extends { readonly id: string }>(data: readonly T[], hasMore: boolean) {
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: hasMore,
  }
}
