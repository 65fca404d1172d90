// What must hold of every answer and of every error, whatever the input was.

import assert from 'node:assert/strict'
import { errorTable, ServerError } from '../../server/errors.ts'

const leaks = [
  /node_modules/,
  /\n\s+at /,
  /file:\/\//,
  /\/(?:work|home|root|tmp|usr)\//,
  /\.[tj]s:\d/,
]
const mostErrorChars = 4096

/** An error body is OpenAI's shape, with a code of the table, and tells nothing of the server. */
export function checkErrorBody(status: number, text: string): void {
  const { error, ...others } = JSON.parse(text)
  assert.deepEqual(others, {})
  assert.deepEqual(Object.keys(error).sort(), ['code', 'message', 'param', 'type'])
  assert.ok(Object.hasOwn(errorTable, error.code), `the code ${error.code} is not in the table`)
  const known = errorTable[error.code as keyof typeof errorTable]
  assert.deepEqual([status, error.type], [known.status, known.type])
  assert.ok(typeof error.message === 'string' && error.message !== '')
  assert.ok(error.param === null || typeof error.param === 'string')
  checkSafe(text)
}

function checkSafe(text: string): void {
  assert.ok(text.length <= mostErrorChars, `an error of ${text.length} characters`)
  for (const leak of leaks) assert.doesNotMatch(text, leak)
}

/** The reading of a file succeeds, or ends in a clear ServerError of one of these codes. */
export function checkRefusal(codes: readonly string[], read: () => void): void {
  try {
    read()
  } catch (error) {
    requireRefusal(codes, error)
  }
}

export function requireRefusal(codes: readonly string[], error: unknown): void {
  if (!(error instanceof ServerError)) throw error
  assert.ok(codes.includes(error.code), `the code ${error.code}: ${error.message}`)
  assert.ok(error.message.length > 0 && error.message.length <= mostErrorChars, error.message)
  assert.doesNotMatch(error.message, /\[object /)
}
