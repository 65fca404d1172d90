// From a parsed request to its response: admission, submission, then either one body or a stream.
// Headers wait for the engine's `accepted`, so that a refusal gets its own status.

import { randomUUID } from 'node:crypto'
import type { GenerateRequest, GenerationEvent, Turn } from '../contracts/generation.ts'
import { ServerError } from '../errors.ts'
import type { KeyTicket } from '../keys/key-limits.ts'
import { loadOf, type Ticket } from './admission.ts'
import { incomingOf, type RequestContext, type Services } from './context.ts'
import { openAIError } from './error-response.ts'
import { type EventWriter, streamEvents } from './event-stream.ts'
import { groupGenerations } from './generation-group.ts'
import { adapterHeader, mergedHeader } from './reply/applied-adapters.ts'
import type { Reply, StreamFrame } from './reply/reply.ts'
import { safetyHeader } from './reply/safety-field.ts'
import { clientOf } from './request-target.ts'
import { superviseRun } from './supervised-run.ts'
import { clientGone } from './wire/client-fault.ts'
import { jsonResponse } from './wire/json-response.ts'
import { createPace } from './wire/pace.ts'

export interface GenerationJob {
  /** Of the reply; the engine's requests are numbered under it. */
  readonly id: string
  /** One per prompt; all with the same n. */
  readonly requests: ReadonlyArray<Omit<GenerateRequest, 'id' | 'turn'>>
  readonly stream: boolean
  readonly reply: Reply
  /** OpenAI's chunks unless said. */
  readonly frame?: StreamFrame
  /** Of the answer, beside those that every answer has. */
  readonly headers: Readonly<Record<string, string>>
}

const chunkFrame: StreamFrame = { isTyped: false, failure: openAIError, end: '[DONE]' }

export function replyId(prefix: 'chatcmpl' | 'cmpl' | 'resp' | 'msg'): string {
  const joint = prefix === 'resp' || prefix === 'msg' ? '_' : '-'
  return `${prefix}${joint}${randomUUID().replaceAll('-', '')}`
}

/**
 * Aborts with a request's signal. Outside any scope that sees the request: Node keeps a request's
 * signal and its listeners until the request is collected, so a listener that reaches the request
 * would keep it for ever.
 */
function followSignal(signal: AbortSignal): AbortController {
  const controller = new AbortController()
  if (signal.aborted) controller.abort()
  else signal.addEventListener('abort', () => controller.abort(), { once: true })
  return controller
}

/** Both tickets are given back together; neither is kept where there is no other. */
function enterWith(keyTicket: KeyTicket, enter: () => Ticket): Ticket {
  try {
    const ticket = enter()
    return {
      stop: ticket.stop,
      release() {
        ticket.release()
        keyTicket.release()
      },
    }
  } catch (error) {
    keyTicket.release()
    throw error
  }
}

export async function runGeneration(
  context: RequestContext,
  services: Services,
  job: GenerationJob,
): Promise<Response> {
  const { engine, admission, observer, logger, clock, config } = services
  const [first] = job.requests
  if (first === undefined) throw new Error('a job has at least one prompt')

  // 1. In, and off to the engine.
  const turn: Turn = { client: clientOf(context, config), request: job.id }
  const { key } = context.get('caller')
  const keyTicket = services.keyLimits.enter(key)
  const ticket = enterWith(keyTicket, () =>
    admission.enter({ client: turn.client, ...loadOf(job.requests) }),
  )
  const client = followSignal(context.req.raw.signal)
  const generations = job.requests.map((request, i) =>
    engine.submit({
      ...request,
      turn,
      id: job.requests.length === 1 ? job.id : `${job.id}-${i}`,
    }),
  )
  const events = superviseRun({
    generation: groupGenerations(generations, first.n, job.id),
    responseId: job.id,
    ticket,
    client: client.signal,
    deadlineMs: config.requestTimeout,
    n: first.n * job.requests.length,
    maxTokens: first.maxTokens,
    observer: {
      ...observer,
      requestFinished(event) {
        const tokens = event.promptTokens + event.completionTokens
        keyTicket.spend(tokens)
        if (key !== null) observer.keyTokens({ key: key.name, tokens })
        observer.requestFinished(event)
      },
    },
    logger,
    clock,
  })

  // 2. The engine says what it will do, or why not.
  const { value: accepted } = await events.next()
  if (accepted?.kind === 'failed') throw ServerError.from(accepted.error)
  if (accepted?.kind !== 'accepted') {
    await events.return(undefined)
    observer.clientDisconnected('before_response')
    return clientGone(incomingOf(context)?.socket)
  }
  context.set('applied', accepted.adapters)
  const safety = safetyHeader(first.safety, accepted.guard)
  context.set('logFields', { ...context.get('logFields'), safety })
  const headers = {
    ...job.headers,
    'x-adapter': adapterHeader(accepted.adapters),
    ...(accepted.merged && { 'x-merged': mergedHeader(accepted.merged) }),
    'x-safety': safety,
  }

  // 3. One body …
  if (!job.stream) {
    job.reply.collect(accepted)
    const ending = await collect(events, job.reply)
    if (ending.kind === 'failed') throw ServerError.from(ending.error)
    if (ending.kind === 'done') return jsonResponse(job.reply.body(), headers)
    observer.clientDisconnected('before_response')
    return clientGone(incomingOf(context)?.socket)
  }

  // 4. … or a stream, whose last event is its end also after an error.
  const { isTyped, failure, end } = job.frame ?? chunkFrame
  let isClientGone = false

  function onGone() {
    if (!isClientGone) observer.clientDisconnected('mid_stream')
    isClientGone = true
    client.abort()
  }

  let ended: (outcome: string) => void = () => {}
  context.set('ended', new Promise((resolve) => (ended = resolve)))

  async function produce(writer: EventWriter) {
    let outcome = 'cancelled'
    const pace = createPace()
    const send = (chunk: object) =>
      writer.send(chunk, isTyped ? (chunk as { type: string }).type : undefined)
    try {
      for (const chunk of job.reply.chunks(accepted)) await send(chunk)
      for await (const event of events) {
        for (const chunk of job.reply.chunks(event)) {
          await send(chunk)
          await pace.step()
        }
        outcome = event.kind
        if (event.kind !== 'failed') continue
        outcome = event.error.code
        await send(failure(ServerError.from(event.error)))
      }
      if (outcome === 'cancelled') onGone()
      else if (end !== null) await writer.send(end)
    } finally {
      // Also when the very first write failed and the loop was never entered.
      await events.return(undefined)
      ended(outcome)
    }
  }

  const body = streamEvents({
    limits: services.streamLimits,
    produce,
    onGone,
    disconnect: () => disconnect(context),
  })
  return new Response(body, {
    headers: {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      // nginx would gather the events otherwise.
      'x-accel-buffering': 'no',
    },
  })
}

async function collect(
  events: AsyncIterable<GenerationEvent>,
  reply: Reply,
): Promise<GenerationEvent> {
  const pace = createPace()
  let last: GenerationEvent = { kind: 'cancelled' }
  for await (const event of events) {
    reply.collect(event)
    last = event
    await pace.step()
  }
  return last
}

/** Closes the connection, where the request came over one. */
function disconnect(context: RequestContext): boolean {
  const env = context.env as { outgoing?: { destroy(): unknown } } | undefined
  env?.outgoing?.destroy()
  return env?.outgoing !== undefined
}
