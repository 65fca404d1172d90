// A body in tiny chunks costs Node a call for each, and one read of a socket brings ten thousand of them:
// after so many the socket rests. Those that rest go on one after the other, one in a turn of the event
// loop, so that many such bodies at once cost a turn no more than one. Nothing is consumed here; whoever
// reads the body, or drops it, gets it piece by piece as it comes.

import type { IncomingMessage } from 'node:http'

const piecesPerRead = 1000

/** For all requests of a server. */
export function createBodyPace(): (incoming: IncomingMessage) => void {
  const resting: Array<() => void> = []

  function wakeNext(): void {
    resting.shift()?.()
    if (resting.length > 0) setImmediate(wakeNext)
  }

  return function paceBody(incoming) {
    const { socket } = incoming
    const push = incoming.push.bind(incoming)
    let numPieces = 0
    incoming.push = function pacedPush(chunk, encoding) {
      if (++numPieces === piecesPerRead) {
        socket.pause()
        if (resting.length === 0) setImmediate(wakeNext)
        resting.push(() => {
          numPieces = 0
          socket.resume()
        })
      }
      return push(chunk, encoding)
    }
  }
}
