// The query of a request. Only ?adapter= is read; a name that can only mean it is refused, since the
// base would answer a client that believes in its adapter.

import { ServerError } from '../../errors.ts'
import { quote } from './quote.ts'

export interface Query {
  /** Values of ?adapter=, one per occurrence. */
  readonly adapter: readonly string[]
  /** Other names, for the log; bounded in number and length. */
  readonly unknown: readonly string[]
}

const meansAdapter = /adapt|lora/i
const maxUnknown = 16
const maxNameLength = 64

export function readQuery(values: Readonly<Record<string, readonly string[]>>): Query {
  const others = Object.keys(values).filter((name) => name !== 'adapter')
  const other = others.find((name) => meansAdapter.test(name))
  if (other !== undefined) {
    throw new ServerError(
      'unsupported_parameter',
      `?${quote(other)} is not read by this server; name adapters as ?adapter=`,
      { param: other },
    )
  }
  const unknown = others.slice(0, maxUnknown).map((name) => name.slice(0, maxNameLength))
  return { adapter: values.adapter ?? [], unknown }
}

// ---- ?limit and ?after of a list in pages, as OpenAI's lists have them ----

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
