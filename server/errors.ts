// Every error a client or operator can act on: a stable code, an HTTP status, an OpenAI error type.
// A message says the rule, the value and the remedy. Across the process border errors travel as
// { code, message, param }; the code is also the metric label. Anything else that is thrown is a bug.

export const errorTable = {
  // The request itself
  invalid_json: { status: 400, type: 'invalid_request_error' },
  invalid_request: { status: 400, type: 'invalid_request_error' },
  invalid_value: { status: 400, type: 'invalid_request_error' },
  unsupported_value: { status: 400, type: 'invalid_request_error' },
  unsupported_parameter: { status: 400, type: 'invalid_request_error' },
  unsupported_endpoint: { status: 400, type: 'invalid_request_error' },
  unsupported_content: { status: 400, type: 'invalid_request_error' },
  context_length_exceeded: { status: 400, type: 'invalid_request_error' },
  adapter_conflict: { status: 400, type: 'invalid_request_error' },
  adapter_rank_exceeded: { status: 400, type: 'invalid_request_error' },
  adapter_other_base: { status: 400, type: 'invalid_request_error' },
  invalid_adapter: { status: 400, type: 'invalid_request_error' },
  unsupported_adapter: { status: 400, type: 'invalid_request_error' },
  invalid_api_key: { status: 401, type: 'authentication_error' },
  insufficient_permissions: { status: 403, type: 'permission_error' },
  adapter_required: { status: 403, type: 'permission_error' },
  policy_floor: { status: 403, type: 'permission_error' },
  host_not_allowed: { status: 403, type: 'permission_error' },
  origin_not_allowed: { status: 403, type: 'permission_error' },
  not_found: { status: 404, type: 'invalid_request_error' },
  model_not_found: { status: 404, type: 'invalid_request_error' },
  method_not_allowed: { status: 405, type: 'invalid_request_error' },
  adapter_merged: { status: 409, type: 'invalid_request_error' },
  adapter_not_merged: { status: 409, type: 'invalid_request_error' },
  merge_in_progress: { status: 409, type: 'invalid_request_error' },
  adapter_exists: { status: 409, type: 'invalid_request_error' },
  request_timeout: { status: 408, type: 'invalid_request_error' },
  request_too_large: { status: 413, type: 'invalid_request_error' },
  unsupported_media_type: { status: 415, type: 'invalid_request_error' },
  headers_too_large: { status: 431, type: 'invalid_request_error' },
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error' },
  // The server
  server_error: { status: 500, type: 'server_error' },
  engine_crashed: { status: 500, type: 'server_error' },
  merge_failed: { status: 500, type: 'server_error' },
  merge_unverified: { status: 500, type: 'server_error' },
  numerical_error: { status: 500, type: 'server_error' },
  model_loading: { status: 503, type: 'server_error' },
  shutting_down: { status: 503, type: 'server_error' },
  adapter_limit: { status: 503, type: 'server_error' },
  adapter_unavailable: { status: 503, type: 'server_error' },
  guard_unavailable: { status: 503, type: 'server_error' },
  upstream_unavailable: { status: 503, type: 'server_error' },
  storage_unavailable: { status: 503, type: 'server_error' },
  timeout: { status: 504, type: 'server_error' },
  memory_full: { status: 507, type: 'server_error' },
  storage_full: { status: 507, type: 'server_error' },
  // The operator: these end the process with exit code 1 and one line
  invalid_config: { status: 500, type: 'server_error' },
  invalid_checkpoint: { status: 500, type: 'server_error' },
  engine_unavailable: { status: 500, type: 'server_error' },
  device_unavailable: { status: 500, type: 'server_error' },
  unsupported_checkpoint: { status: 500, type: 'server_error' },
  // Those of a hub are also told to who has an adapter fetched
  hub_unavailable: { status: 503, type: 'server_error' },
  hub_access_denied: { status: 403, type: 'permission_error' },
  hub_not_found: { status: 404, type: 'invalid_request_error' },
  download_failed: { status: 503, type: 'server_error' },
} as const satisfies Record<string, { status: number; type: string }>

export type ErrorCode = keyof typeof errorTable

/** What an engine would have to be started with to do what this one cannot. Stays in the server. */
export interface EngineNeeds {
  /** The adapter that asks for it. */
  readonly adapterId: string
  /** Linear modules that adapters must be able to change. */
  readonly modules: readonly string[]
  /** The state of the adapter's folder that asks for it. */
  readonly version: string
}

/** An error as it crosses the process border. `message` is safe to show to a client. */
export interface ErrorBody {
  readonly code: ErrorCode
  readonly message: string
  /** The request field at fault, as a path ("messages.0.content"), where there is one. */
  readonly param?: string | null
  readonly needs?: EngineNeeds | null
}

/** An error that a client or operator can act on. Its message may be shown to them as it is. */
export class ServerError extends Error {
  override readonly name = 'ServerError'
  readonly code: ErrorCode
  readonly param: string | null
  /** HTTP headers that belong to this answer (Allow, Retry-After, …). They stay in the front. */
  readonly headers: Readonly<Record<string, string>>
  /** Set where another engine could do it. */
  readonly needs: EngineNeeds | null

  constructor(
    code: ErrorCode,
    message: string,
    options: {
      param?: string | null
      headers?: Record<string, string>
      needs?: EngineNeeds | null
      cause?: unknown
    } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause })
    this.code = code
    this.param = options.param ?? null
    this.headers = options.headers ?? {}
    this.needs = options.needs ?? null
  }

  get status(): number {
    return errorTable[this.code].status
  }

  toBody(): ErrorBody {
    const { code, message, param, needs } = this
    return needs === null ? { code, message, param } : { code, message, param, needs }
  }

  static from(body: ErrorBody): ServerError {
    return new ServerError(body.code, body.message, {
      param: body.param ?? null,
      needs: body.needs ?? null,
    })
  }
}

/** The server takes no more requests, or has to end those that run. */
export function shuttingDown(): ServerError {
  return new ServerError('shutting_down', 'The server is shutting down; send the request again.')
}

/** There is no engine now that could run the request. */
export function modelLoading(
  doing: 'loading' | 'restarting' | 'being downloaded' | 'unresponsive' = 'loading',
): ServerError {
  return new ServerError('model_loading', `The model is ${doing}; try again in a moment.`)
}
