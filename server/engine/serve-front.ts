// The engine process after its heart has begun to beat: loads a checkpoint, then serves the front's
// messages over IPC. It owns the model and nothing else; when the front goes, it goes.

import type {
  Answer,
  Call,
  CallHandlers,
  CallName,
  Calls,
  FromEngine,
  ToEngine,
} from '../engine-client/protocol.ts'
import { modelLoading, ServerError } from '../errors.ts'
import type { Heart } from './heart.ts'
import { type OpenEngine, openEngine } from './open.ts'

function send<Name extends CallName>(message: FromEngine<Name>): void {
  // A front that ends between the question and the answer is no error: 'disconnect' follows.
  if (process.connected) process.send?.(message, () => {})
}

function toBody(error: unknown) {
  if (error instanceof ServerError) return error.toBody()
  console.error(error)
  return new ServerError('server_error', 'The engine failed unexpectedly.').toBody()
}

let engine: OpenEngine | undefined

async function start(message: Extract<ToEngine, { kind: 'start' }>, heart: Heart): Promise<void> {
  try {
    engine = await openEngine(message.options, {
      heart,
      publish: (events) => send({ kind: 'events', events }),
      onStats: (stats) => send({ kind: 'stats', stats }),
      onProgress: (what, done, total) => send({ kind: 'progress', what, done, total }),
      onNotice: (message) => send({ kind: 'notice', message }),
      // The front fails what ran and starts another process, which opens the device anew.
      onDeviceFailure: (error) => {
        console.error(error)
        process.exit(1)
      },
    })
  } catch (error) {
    const body =
      error instanceof ServerError
        ? error.toBody()
        : new ServerError('invalid_checkpoint', describe(error)).toBody()
    process.send?.({ kind: 'refused', error: body } satisfies FromEngine, () => process.exit(1))
    return
  }
  send({ kind: 'ready', model: engine.model })
}

function describe(error: unknown): string {
  return `The model could not be loaded: ${error instanceof Error ? error.message : String(error)}`
}

async function answer<Name extends CallName>(call: Call<Name>): Promise<void> {
  const { id, name } = call
  try {
    if (engine === undefined) throw modelLoading()
    const handlers: CallHandlers = engine
    const value: Calls[Name][1] = await handlers[name](call.input)
    const reply: Answer<Name> = { kind: 'answer', id, name, value }
    send<Name>(reply)
  } catch (error) {
    send<Name>({ kind: 'refusal', id, name, error: toBody(error) })
  }
}

export function serveFront(heart: Heart): void {
  process.on('message', (message: ToEngine) => {
    switch (message.kind) {
      case 'start':
        void start(message, heart)
        break
      case 'submit':
        void engine?.submit(message.request)
        break
      case 'cancel':
        engine?.cancel(message.id)
        break
      case 'call':
        void answer(message)
        break
    }
  })
  process.on('disconnect', () => process.exit(0))
  // The front decides when to end; a terminal's Ctrl-C reaches every process of the group.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
}
