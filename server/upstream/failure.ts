// How an upstream fails, and what a client is told of it: the upstream's own words stay in the log.

import { type ErrorCode, ServerError } from '../errors.ts'

/**
 * outage: it cannot be reached, or its engine is dead. failed: it failed on this request, and its health is
 * good. busy: it takes no more now. unknown_model: the name is not registered there. refused: it does not
 * take this request. broken: a stream ended before its end, or its answer is none. other_model: another
 * than the asked one has answered.
 */
export type FailureKind =
  | 'outage'
  | 'failed'
  | 'busy'
  | 'unknown_model'
  | 'refused'
  | 'broken'
  | 'other_model'
  | 'silent'

export class UpstreamFailure extends Error {
  readonly kind: FailureKind
  constructor(kind: FailureKind, what: string, options: { cause?: unknown } = {}) {
    super(what, options)
    this.kind = kind
  }
}

/** Another upstream, or this one a little later, may answer. */
export function mayBeAskedAgain({ kind }: UpstreamFailure): boolean {
  return kind === 'outage' || kind === 'failed' || kind === 'busy' || kind === 'unknown_model'
}

/** It is up, and does not do this. */
export function isOfCall(error: unknown): boolean {
  return error instanceof UpstreamFailure && ['refused', 'failed'].includes(error.kind)
}

/** What the status and body of an answer that is no success mean. */
export function failureOf(status: number, body: ErrorAnswer): UpstreamFailure {
  const what = `status ${status}`
  if (status === 404 && body.param === 'model') return new UpstreamFailure('unknown_model', what)
  if (status === 429) return new UpstreamFailure('busy', what)
  // Of its engine, or of this request alone: its health tells (transport.ts).
  if (status === 500) return new UpstreamFailure('failed', what)
  if (status > 501) return new UpstreamFailure('outage', what)
  return new UpstreamFailure('refused', what)
}

export interface ErrorAnswer {
  readonly param: string | null
}

const told: Readonly<Record<FailureKind, readonly [ErrorCode, string]>> = {
  outage: ['upstream_unavailable', 'No upstream can take the request now; try again in a moment.'],
  failed: ['server_error', 'The upstream failed on this request; others are served.'],
  busy: ['rate_limit_exceeded', 'Every upstream is full now; try again in a moment.'],
  unknown_model: [
    'adapter_unavailable',
    'The upstream lost an adapter twice while it was asked for; try again in a moment.',
  ],
  refused: ['server_error', 'The upstream refused what this server made of the request.'],
  broken: ['engine_crashed', 'The upstream ended the stream before its end; send it again.'],
  other_model: [
    'adapter_unavailable',
    'The upstream answered as another model than the asked one; nothing of that was told.',
  ],
  silent: ['timeout', 'The upstream said nothing for longer than --upstream-timeout.'],
}

/** The name that answered is the one that was asked for. */
export function requireSameModel(answered: string, asked: string): void {
  if (answered !== asked) throw new UpstreamFailure('other_model', 'another model answered')
}

/** What a client may know of it. Other errors stay as they are. */
export function tellFailure(error: unknown): unknown {
  if (!(error instanceof UpstreamFailure)) return error
  const [code, message] = told[error.kind]
  return new ServerError(code, message, { cause: error })
}
