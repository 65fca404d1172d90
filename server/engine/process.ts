// Entry of the engine process: loads a checkpoint, then serves the front's messages over IPC.
// It owns the model and nothing else; when the front goes, it goes.

import { type FromEngine, heartbeatMs, type ToEngine } from '../engine-client/protocol.ts'
import { ServerError } from '../errors.ts'
import { type OpenEngine, openEngine } from './engine.ts'

function send(message: FromEngine): void {
  // A front that goes between the question and the writing is no error: 'disconnect' follows.
  if (process.connected) process.send?.(message, () => {})
}

function toBody(error: unknown) {
  if (error instanceof ServerError) return error.toBody()
  console.error(error)
  return new ServerError('server_error', 'The engine failed unexpectedly.').toBody()
}

let engine: OpenEngine | undefined

async function start(message: Extract<ToEngine, { kind: 'start' }>): Promise<void> {
  try {
    engine = await openEngine(message.options, {
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
  setInterval(() => send({ kind: 'heartbeat', stepMs: engine?.stepMs ?? null }), heartbeatMs)
}

function describe(error: unknown): string {
  return `The model could not be loaded: ${error instanceof Error ? error.message : String(error)}`
}

async function answer(message: Extract<ToEngine, { kind: 'call' }>): Promise<void> {
  try {
    if (engine === undefined) throw new ServerError('model_loading', 'The model is still loading.')
    const value = await engine[message.name](message.input as never)
    send({ kind: 'answer', id: message.id, value })
  } catch (error) {
    send({ kind: 'refusal', id: message.id, error: toBody(error) })
  }
}

process.on('message', (message: ToEngine) => {
  switch (message.kind) {
    case 'start':
      void start(message)
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
