// What is wrong with a field, as one line for a client: the field, the rule and the value.

import type { z } from 'zod'
import { isObject } from '../../contracts/json.ts'
import { type ErrorCode, ServerError } from '../../errors.ts'
import { quote } from './quote.ts'

type Issue = z.core.$ZodIssue

/** A field by its name, and the rule that it breaks. */
export function wrong(
  param: string,
  message: string,
  code: ErrorCode = 'invalid_value',
): ServerError {
  return new ServerError(code, `${param} ${message}`, { param })
}

/** Parts of a field that would change something, and that nothing here knows. */
export function rejectOthers(field: string, value: unknown, known: readonly string[]): void {
  if (!isObject(value)) return
  for (const [key, given] of Object.entries(value)) {
    if (known.includes(key) || given == null) continue
    throw wrong(
      `${field}.${key.slice(0, 64)}`,
      `is not supported by this server; got ${quote(given)}; leave it out`,
      'unsupported_parameter',
    )
  }
}

/** The error of a strict object: what it knows, and the key that is not among it. */
export function knowsOnly(...names: readonly string[]) {
  const last = names.at(-1)
  const known = names.length === 1 ? last : `${names.slice(0, -1).join(', ')} and ${last}`
  return {
    error: (issue: z.core.$ZodRawIssue) =>
      issue.code === 'unrecognized_keys'
        ? `knows ${known}; not ${quote(issue.keys[0])}`
        : undefined,
  }
}

/** Names only the first wrong field: a million of them must not make a long answer. */
export function fieldError(error: z.ZodError, body: unknown): ServerError {
  const issue = deepest(error.issues[0]!)
  const param = issue.path.map(String).join('.')
  const value = valueAt(body, issue.path)
  const got = value === undefined ? 'it is missing' : `got ${quote(value)}`
  return wrong(param, `${rule(issue)}; ${got}`)
}

/** Of a union's branches, the one that went furthest into the value says what is wrong. */
function deepest(issue: Issue): Issue {
  if (issue.code !== 'invalid_union') return issue
  const branches = issue.errors.map(([first]) => first).filter((first) => first !== undefined)
  const inner =
    branches.find(({ path }) => path.length > 0) ??
    branches.find(({ code }) => code !== 'invalid_type')
  return inner === undefined ? issue : deepest({ ...inner, path: [...issue.path, ...inner.path] })
}

const typeNames: Readonly<Record<string, string>> = {
  array: 'a list',
  boolean: 'true or false',
  int: 'a whole number',
  number: 'a number',
  object: 'an object',
  record: 'an object',
  string: 'a string',
}

const units: Readonly<Record<string, string>> = { string: ' characters', array: ' entries' }

function rule(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${typeNames[issue.expected] ?? issue.expected}`
    case 'too_small':
      return `must ${bound(issue.origin, issue.inclusive === false ? '>' : '≥', issue.minimum)}`
    case 'too_big':
      return `must ${bound(issue.origin, issue.inclusive === false ? '<' : '≤', issue.maximum)}`
    case 'invalid_value':
      return `must be ${issue.values.map(String).join(' or ')}`
    default:
      // Our own messages, written where the rule is.
      return issue.message
  }
}

function bound(origin: string, sign: string, limit: number | bigint): string {
  const unit = units[origin]
  return unit === undefined ? `be ${sign} ${limit}` : `have ${sign} ${limit}${unit}`
}

function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (at, key) =>
      typeof at === 'object' && at !== null && Object.hasOwn(at, key)
        ? (at as Record<PropertyKey, unknown>)[key]
        : undefined,
    body,
  )
}
