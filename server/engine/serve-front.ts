// The engine process after its heart has begun to beat: loads a checkpoint, then serves the front's
// messages over its pipe. It owns the model and nothing else; when the front goes, it goes.

import { Socket } from 'node:net'
import { type MessagePipe, messagePipe, openMessagePipe } from '../engine-client/message-pipe.ts'
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
import type { Heart } from '../heart/heart.ts'
import { type EngineEvents, type OpenEngine, openEngine } from './open.ts'
import { openUpstreamEngine } from './open-upstream.ts'

let front: MessagePipe | undefined

function send<Name extends CallName>(message: FromEngine<Name>, onSent = () => {}): void {
  // A front that ends between the question and the answer is no error: its close follows.
  if (front?.isOpen) front.send(message, onSent)
}

function toBody(error: unknown) {
  if (error instanceof ServerError) return error.toBody()
  console.error(error)
  return new ServerError('server_error', 'The engine failed unexpectedly.').toBody()
}

let engine: OpenEngine | undefined

async function start(message: Extract<ToEngine, { kind: 'start' }>, heart: Heart): Promise<void> {
  try {
    const { options } = message
    const events: EngineEvents = {
      heart,
      publish: (events) => send({ kind: 'events', events }),
      onStats: (stats) => send({ kind: 'stats', stats }),
      onOutage: (error) => send({ kind: 'outage', error }),
      onProgress: (what, done, total) => send({ kind: 'progress', what, done, total }),
      onNotice: (message) => send({ kind: 'notice', message }),
      // The front fails what ran and starts another process, which opens the device anew.
      onDeviceFailure: (error) => {
        console.error(error)
        process.exit(1)
      },
    }
    engine =
      options.upstream === null
        ? await openEngine(options, events)
        : await openUpstreamEngine(options, options.upstream, events)
  } catch (error) {
    const body =
      error instanceof ServerError
        ? error.toBody()
        : new ServerError('invalid_checkpoint', describe(error)).toBody()
    send({ kind: 'refused', error: body }, () => process.exit(1))
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

function receive(message: ToEngine, heart: Heart): void {
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
}

export function serveFront(heart: Heart): void {
  front = openMessagePipe<ToEngine>(new Socket({ fd: messagePipe }), {
    onMessage: (message) => receive(message, heart),
    onBroken(error) {
      console.error(error)
      process.exit(1)
    },
    onClosed: () => process.exit(0),
  })
  // The front decides when to end; a terminal's Ctrl-C reaches every process of the group.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
}
