// A body in tiny chunks costs Node a call for each, and one turn of the event loop reads megabytes of
// them: after so many the socket rests for a turn. Nothing is consumed here; whoever reads the body, or
// drops it, gets it piece by piece as it comes.

import type { IncomingMessage } from 'node:http'

const piecesPerTurn = 1000

export function paceBody(incoming: IncomingMessage): void {
  const { socket } = incoming
  const push = incoming.push.bind(incoming)
  let numPieces = 0
  incoming.push = function pacedPush(chunk, encoding) {
    if (++numPieces === piecesPerTurn) {
      socket.pause()
      setImmediate(() => {
        numPieces = 0
        socket.resume()
      })
    }
    return push(chunk, encoding)
  }
}
