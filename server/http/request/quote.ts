// What an error message may show of a request.

/** Cut to a length, with an ellipsis in the last place. */
export function bounded(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`
}

/** Quotes a value of the request in a message, shortened and without control characters. */
export function quote(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(bounded(value, 64))
  if (value === undefined) return 'nothing'
  if (value === null || typeof value !== 'object') return String(value)
  return Array.isArray(value) ? 'a list' : 'an object'
}
