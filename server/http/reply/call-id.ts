// The id of a call: of the reply it is in, and its place there. The same streamed as whole.

/** `id`: of the reply, whose first characters are enough. */
export function callId(id: string, call: number, choice = 0, prefix = 'call'): string {
  const own = id.replace(/^[a-z]+[-_]/, '').slice(0, 20)
  return `${prefix}_${own}${choice.toString(36).padStart(2, '0')}${call.toString(36).padStart(2, '0')}`
}
