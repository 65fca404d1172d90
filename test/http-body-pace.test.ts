// Bodies in tiny chunks: sockets rest after so many pieces, and go on one in a turn of the event loop.

import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { createBodyPace } from '../server/http/wire/body-pace.ts'

/** A request whose socket says when it rests. */
function createRequest() {
  const pieces: unknown[] = []
  const socket = {
    isPaused: false,
    pause: () => (socket.isPaused = true),
    resume: () => (socket.isPaused = false),
  }
  const incoming = { socket, push: (piece: unknown) => pieces.push(piece) > 0 }
  const send = (count: number) => {
    for (let i = 0; i < count; i++) incoming.push('x')
  }
  return { incoming: incoming as unknown as IncomingMessage, socket, pieces, send }
}

test('many bodies in tiny chunks: a turn of the event loop reads one of them', async () => {
  const pace = createBodyPace()
  const requests = Array.from({ length: 4 }, createRequest)
  for (const { incoming, send } of requests) {
    pace(incoming)
    send(999)
  }
  const numResting = () => requests.filter(({ socket }) => socket.isPaused).length
  assert.equal(numResting(), 0)
  // What a read has brought beyond the bound comes all the same.
  for (const { send } of requests) send(10_000)
  const seen = [numResting()]
  for (let turn = 0; turn < 4; turn++) {
    await nextTurn()
    seen.push(numResting())
  }
  assert.deepEqual(seen, [4, 3, 2, 1, 0])
  for (const { pieces } of requests) assert.equal(pieces.length, 10_999)
  requests[0]!.send(1000)
  assert.equal(numResting(), 1)
  await nextTurn()
  assert.equal(numResting(), 0)
})
