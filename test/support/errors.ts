import { ServerError } from '../../server/errors.ts'

/** For assert.throws: a ServerError of that code whose message says those words. */
export const hasCode = (code: string, words: RegExp) => (error: unknown) =>
  error instanceof ServerError && error.code === code && words.test(error.message)
