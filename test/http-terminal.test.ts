// Every request ends exactly once. Engines that keep and break their promises, against clients that
// stay and go, deadlines and shutdowns at any moment: all combinations, each several turns apart.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { FinishedRequest } from '../server/contracts/observer.ts'
import { createMetrics } from '../server/metrics/registry.ts'
import {
  accepted,
  answer,
  createFakeEngine,
  delta,
  failed,
  hang,
  type Script,
} from './support/fake-engine.ts'
import { createFront, goodChat, parseEvents, until } from './support/front.ts'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await turn()
}

const engines: Readonly<Record<string, Script>> = {
  answers: answer,
  'answers slowly': async function* (request, signal) {
    for await (const event of answer(request, signal)) {
      await turn()
      yield event
    }
  },
  'refuses at once': async function* () {
    yield failed('invalid_value', 'no')
  },
  'fails midway': async function* (request) {
    yield accepted(request)
    yield delta(0, 'content', 'a')
    await turn()
    yield failed('engine_crashed', 'gone')
  },
  'throws at once': async function* () {
    await turn()
    yield* []
    throw new Error('bug')
  },
  'throws midway': async function* (request) {
    yield accepted(request)
    await turn()
    throw new Error('bug')
  },
  'stops talking': async function* (request) {
    yield accepted(request)
  },
  'says nothing': hang({ accept: false }),
  'never ends': hang({ accept: true }),
}

type Interruption = 'none' | 'client' | 'reader' | 'stop' | 'deadline'
const endsByItself = (engine: string) => !['says nothing', 'never ends'].includes(engine)

const play = async (scene: {
  engine: string
  stream: boolean
  prompts: number
  interruption: Interruption
  after: number
}) => {
  const { stream, prompts, interruption, after } = scene
  const finished: FinishedRequest[] = []
  const observer = { ...createMetrics(), requestFinished: (e: FinishedRequest) => finished.push(e) }
  const engine = createFakeEngine({ script: engines[scene.engine] as Script })
  // Where an interruption comes too early or too late to end a silent engine, the deadline does.
  const requestTimeout = interruption === 'deadline' ? 5 : 100
  const front = createFront({ engine, observer, config: { requestTimeout } })
  const client = new AbortController()
  const [path, body] =
    prompts === 1
      ? ['/v1/chat/completions', { ...goodChat, stream }]
      : ['/v1/completions', { model: 'tiny', prompt: Array(prompts).fill('a'), stream }]

  const pending = front.post(path, body, { signal: client.signal }).catch(() => undefined)
  if (interruption === 'client') turns(after).then(() => client.abort())
  if (interruption === 'stop') turns(after + 2).then(() => front.app.admission.stopAll())
  const response = await pending
  let text: string | undefined
  if (response && interruption === 'reader' && response.body) await response.body.cancel()
  else text = await response?.text().catch(() => undefined)

  await until(2000, 'one end', () => finished.length > 0)
  await until(2000, 'no place taken', () => front.app.admission.numInFlight === 0)
  await until(2000, 'no generation left', () => engine.numRunning === 0)
  await turns(3)
  assert.equal(finished.length, 1, 'one end')
  const isStream = response?.headers.get('content-type')?.startsWith('text/event-stream')
  if (!isStream || text === undefined || interruption === 'client') return
  const events = parseEvents(text)
  const isError = (event: object | string) => typeof event === 'object' && 'error' in event
  assert.equal(events.filter((event) => event === '[DONE]').length, 1, text)
  assert.equal(events.at(-1), '[DONE]')
  const numErrors = events.filter(isError).length
  const outcome = finished[0]?.outcome
  assert.equal(numErrors, outcome === 'stop' || outcome === 'length' ? 0 : 1, text)
}

describe('every request ends exactly once', () => {
  for (const engine of Object.keys(engines)) {
    for (const interruption of ['none', 'client', 'reader', 'stop', 'deadline'] as const) {
      if (interruption === 'none' && !endsByItself(engine)) continue
      it(`an engine that ${engine}; interruption: ${interruption}`, async () => {
        for (const stream of [true, false]) {
          if (interruption === 'reader' && !stream) continue
          for (const prompts of [1, 3]) {
            for (const after of [0, 1, 2, 4]) {
              await play({ engine, stream, prompts, interruption, after })
            }
          }
        }
      })
    }
  }
})
