// What a client did wrong on its socket, as the log and the metrics book it: a request that broke off
// is the client's 499, one that Node refused in the middle has the status that Node's answer had.

import type { Socket } from 'node:net'

/** nginx's "client closed request". */
const clientClosedRequest = 499

const refused = new WeakMap<Socket, number>()

/** The socket's request was answered with this status, whatever its handler finds. */
export function markRefused(socket: Socket, status: number): void {
  refused.set(socket, status)
}

/** No one reads it; the log and the metrics do. */
export function clientGone(socket: Socket | undefined): Response {
  const status = socket && refused.get(socket)
  return new Response(null, { status: status ?? clientClosedRequest })
}
