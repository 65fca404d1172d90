// Before a connection closes whose client is still sending, the rest is read and dropped. A socket that is
// closed over unread bytes is reset, and the reset takes the answer away from a client that has not read it
// yet: it sees a broken connection where it was told 401, 413 or 429.

import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

/** For what is on its way; who sends for longer is cut. */
const lingerMs = 1000

const latest = new WeakMap<Socket, IncomingMessage>()

/** Node ends a connection after its last answer by `destroySoon`. */
export function lingerOnClose(incoming: IncomingMessage): void {
  const { socket } = incoming
  const isKnown = latest.has(socket)
  latest.set(socket, incoming)
  if (isKnown) return
  const closeSoon = socket.destroySoon.bind(socket)
  socket.destroySoon = function lingeringDestroySoon() {
    const last = latest.get(socket)!
    if (last.complete || last.destroyed || socket.destroyed) return closeSoon()
    // The client reads the end of the answer now.
    socket.end()
    const timer = setTimeout(() => socket.destroy(), lingerMs)
    socket.once('close', () => clearTimeout(timer))
    last.once('end', () => socket.destroy())
    last.resume()
  }
}
