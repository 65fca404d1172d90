// The formats that are kept to, as expressions: each gives texts of its format, of a common form, and
// not all there are (dates without February 29th, addresses without quotation marks).

import type { Expression } from '../grammar/expression.ts'
import { GrammarError } from '../grammar/expression.ts'
import { parseRegex } from '../grammar/regex.ts'

const day31 = '(0[1-9]|[12]\\d|3[01])'
const day30 = '(0[1-9]|[12]\\d|30)'
const day28 = '(0[1-9]|1\\d|2[0-8])'
const monthDay = `((0[13578]|1[02])-${day31}|(0[469]|11)-${day30}|02-${day28})`
const date = `\\d{4}-${monthDay}`
const time = '([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-](0\\d|1[0-3]):[0-5]\\d)'
const timeSpan = '(\\d{1,3}H(\\d{1,2}M)?(\\d{1,2}S)?|\\d{1,3}M(\\d{1,2}S)?|\\d{1,3}S)'
const dateSpan = '(\\d{1,4}Y(\\d{1,2}M)?(\\d{1,3}D)?|\\d{1,3}M(\\d{1,3}D)?|\\d{1,4}D)'
const label = '[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?'
const hostname = `${label}(\\.${label}){0,4}`
const byte = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const hex = '[0-9a-fA-F]'
const word16 = `${hex}{1,4}`
const atom = '[A-Za-z0-9_+-]+'

const sources: Readonly<Record<string, string>> = {
  date,
  time,
  'date-time': `${date}T${time}`,
  duration: `P(\\d{1,4}W|${dateSpan}(T${timeSpan})?|T${timeSpan})`,
  email: `${atom}(\\.${atom})*@(${label}\\.){1,3}[a-z]{2,10}`,
  hostname,
  ipv4: `${byte}(\\.${byte}){3}`,
  ipv6: `(${word16}:){7}${word16}|(${word16}:){1,6}:${word16}|::1`,
  uri: `https?://${hostname}(:\\d{1,4})?(/[A-Za-z0-9._~-]*)*(\\?[A-Za-z0-9._~=&-]*)?(#[A-Za-z0-9._~-]*)?`,
  uuid: `${hex}{8}-${hex}{4}-${hex}{4}-${hex}{4}-${hex}{12}`,
}

const formatNames: readonly string[] = Object.keys(sources)

export function formatOf(name: string, pointer: string): Expression {
  const source = Object.hasOwn(sources, name) ? sources[name] : undefined
  if (source === undefined) {
    throw new GrammarError(
      `${pointer}/format: answers cannot be decoded by the format ${JSON.stringify(name)}; leave it ` +
        `out, or take one of ${formatNames.join(', ')}`,
    )
  }
  return parseRegex(source, { isFound: false })
}
