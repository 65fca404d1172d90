// An engine process without a model that fails as it is told by ODD_ENGINE: "<when> <how>". It fails
// before it is ready ("loading …") or when it is sent a request ("serving …").

import { type Heart, startHeart } from '../../server/engine/heart.ts'
import type { FromEngine, ToEngine } from '../../server/engine-client/protocol.ts'
import { accepted, done, fakeModel } from './fake-engine.ts'

export type Failure = 'exit' | 'disconnect' | 'stop' | 'block' | 'hang' | 'send nonsense' | 'refuse'
export type OddMode = `loading ${Failure}` | `serving ${Failure}` | 'well'

const heart: Heart = startHeart()
const mode = process.env.ODD_ENGINE as OddMode
const [when, how] = [mode.split(' ')[0], mode.split(' ').slice(1).join(' ') as Failure]

function send(message: FromEngine | null): void {
  process.send?.(message)
}

function fail(): void {
  switch (how) {
    case 'exit':
      process.exit(7)
      break
    case 'disconnect':
      process.disconnect()
      // It does not end by itself.
      setInterval(() => {}, 1000)
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
    case 'refuse':
      send({ kind: 'refused', error: { code: 'unsupported_checkpoint', message: 'No.' } })
      process.disconnect()
      break
  }
}

process.on('message', (message: ToEngine) => {
  if (message.kind === 'start') {
    if (when === 'loading') {
      heart.enter('reading the checkpoint')
      // Node 20 dies of a channel that closes during the first message.
      setImmediate(fail)
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
})
