// An engine process without a model that fails as it is told by ODD_ENGINE: "<when> <how>". It fails
// before it is ready ("loading …") or when it is sent a request ("serving …").

import { writeSync } from 'node:fs'
import { Socket } from 'node:net'
import {
  encodeFrame,
  maxFrameBytes,
  messagePipe,
  openMessagePipe,
} from '../../server/engine-client/message-pipe.ts'
import type { FromEngine, ToEngine } from '../../server/engine-client/protocol.ts'
import { type Heart, startHeart } from '../../server/heart/heart.ts'
import { accepted, done, fakeModel } from './fake-engine.ts'

export type Failure =
  | 'exit'
  | 'disconnect'
  | 'stop'
  | 'block'
  | 'hang'
  | 'send nonsense'
  | 'send garbage'
  | 'send a damaged message'
  | 'send a length that is too long'
  | 'refuse'
export type OddMode = `loading ${Failure}` | `serving ${Failure}` | 'well'

const heart: Heart = startHeart()
const mode = process.env.ODD_ENGINE as OddMode
const [when, how] = [mode.split(' ')[0], mode.split(' ').slice(1).join(' ') as Failure]

const front = openMessagePipe<ToEngine>(new Socket({ fd: messagePipe }), {
  onMessage: receive,
  onBroken() {},
  // It does not end by itself.
  onClosed: () => void setInterval(() => {}, 1000),
})

function send(message: FromEngine | null): void {
  front.send(message)
}

/** As native code would that takes the pipe for its own file. */
function scribble(bytes: Uint8Array): void {
  writeSync(messagePipe, bytes)
}

function fail(): void {
  switch (how) {
    case 'exit':
      process.exit(7)
      break
    case 'disconnect':
      front.end()
      break
    case 'stop':
      process.kill(process.pid, 'SIGSTOP')
      break
    case 'block':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
      break
    case 'hang':
      heart.enter(when === 'loading' ? 'reading the checkpoint' : 'decode')
      break
    case 'send nonsense':
      send(null)
      break
    case 'send garbage':
      scribble(Buffer.from('terminate called after throwing an instance of a native error\n'))
      break
    case 'send a damaged message': {
      const frame = encodeFrame({ kind: 'events', events: [] })
      scribble(frame.fill(0xff, 8))
      break
    }
    case 'send a length that is too long': {
      const frame = encodeFrame(null)
      frame.writeUInt32LE(maxFrameBytes + 1, 4)
      scribble(frame)
      break
    }
    case 'refuse':
      send({ kind: 'refused', error: { code: 'unsupported_checkpoint', message: 'No.' } })
      front.end()
      break
  }
}

function receive(message: ToEngine): void {
  if (message.kind === 'start') {
    if (when === 'loading') {
      heart.enter('reading the checkpoint')
      fail()
      return
    }
    heart.enter('serving')
    send({ kind: 'ready', model: fakeModel })
  }
  if (message.kind !== 'submit') return
  const { request } = message
  send({ kind: 'events', events: [[request.id, accepted(request)]] })
  if (when === 'serving') fail()
  else send({ kind: 'events', events: [[request.id, done]] })
}
