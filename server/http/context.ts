// What every route gets to work with, and what a request carries on its way through the middleware.

import type { IncomingMessage } from 'node:http'
import type { Context } from 'hono'
import type { Config } from '../config.ts'
import type { AppliedAdapter, FetchAdapter } from '../contracts/adapter.ts'
import type { EngineClient } from '../contracts/engine.ts'
import type { Logger } from '../contracts/logger.ts'
import type { Observer } from '../contracts/observer.ts'
import type { Key, Role } from '../keys/key.ts'
import type { KeyLimits } from '../keys/key-limits.ts'
import type { KeyRing } from '../keys/key-ring.ts'
import type { Caller } from './access/auth.ts'
import type { AdapterList } from './adapters/adapter-list.ts'
import type { Admission } from './admission.ts'

export interface Clock {
  /** Milliseconds that never jump; for durations. */
  monotonicMs(): number
  /** Seconds since the epoch; for `created`. */
  unixSeconds(): number
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  unixSeconds: () => Math.floor(Date.now() / 1000),
}

/** The part of the configuration that the front reads. */
export type HttpConfig = Pick<
  Config,
  | 'host'
  | 'apiKey'
  | 'clientHeader'
  | 'corsOrigins'
  | 'allowedHosts'
  | 'maxQueue'
  | 'maxBatch'
  | 'maxBody'
  | 'requestTimeout'
  | 'reasoningField'
  | 'defaultAdapter'
  | 'requireAdapter'
  | 'safety'
  | 'policyFloor'
  | 'guardFailure'
  | 'judgeEvery'
  | 'adapters'
  | 'maxUpload'
  | 'adminKey'
  | 'adminPort'
  | 'adminHost'
  | 'adminMetrics'
  | 'safetyThreshold'
  | 'escalateAdapter'
  | 'begunAnswers'
> & {
  /** Of --keys-file, as it is now; null: there is none. */
  readonly keysOfFile: (() => readonly Key[]) | null
}

export interface Services {
  readonly engine: EngineClient
  readonly config: HttpConfig
  readonly observer: Observer
  readonly logger: Logger
  readonly clock: Clock
  readonly admission: Admission
  readonly adapters: AdapterList
  readonly keys: KeyRing
  readonly keyLimits: KeyLimits
  readonly streamLimits: StreamLimits
  /** null: nothing is fetched (--hub-adapters). */
  readonly fetchAdapter: FetchAdapter | null
}

export interface StreamLimits {
  /** Silence after which a comment keeps proxies from closing the stream. */
  readonly keepAliveMs: number
  /** Bytes that wait for a slow reader before the generation is held up. */
  readonly maxBufferedBytes: number
  /** How long a reader may not read before its generation is cancelled. */
  readonly slowReaderMs: number
}

export const defaultStreamLimits: StreamLimits = {
  keepAliveMs: 15_000,
  maxBufferedBytes: 64 * 1024,
  slowReaderMs: 30_000,
}

export interface RequestVariables {
  requestId: string
  caller: Caller
  /** The one that answers, where several fit. */
  route: string | undefined
  /** What the request log says beyond method, route, status and time. */
  logFields: Record<string, unknown>
  /** Set once the engine has said what it really applies. */
  applied: readonly AppliedAdapter[] | undefined
  /** A stream's end, with its outcome for the log; unset when the response is complete at once. */
  ended: Promise<string> | undefined
}

export type RequestContext = Context<{ Variables: RequestVariables }>

/** Node's request, where it came over a socket. */
export function incomingOf(context: RequestContext): IncomingMessage | undefined {
  return (context.env as { incoming?: IncomingMessage } | undefined)?.incoming
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  /** One line of the OpenAPI document. */
  readonly summary: string
  /** inference unless said. */
  readonly role?: Role
  /** What is read by those who change: --admin-port answers it, too. */
  readonly isOfChanges?: boolean
  handle(context: RequestContext): Response | Promise<Response>
}
