// Every error as the OpenAI clients expect it: {"error":{message,type,param,code}}. What is not a
// ServerError is a bug: it is logged with its stack, and the client gets a sentence without detail.

import type { Logger } from '../contracts/logger.ts'
import { type ErrorCode, errorTable, ServerError } from '../errors.ts'
import { bounded } from './request/quote.ts'

export interface OpenAIError {
  readonly error: {
    readonly message: string
    readonly type: string
    readonly param: string | null
    readonly code: ErrorCode
  }
}

// These bounds keep the whole body far under 32 kB.
const maxMessageLength = 2048
const maxParamLength = 256

export function openAIError(error: ServerError): OpenAIError {
  return {
    error: {
      message: bounded(error.message, maxMessageLength),
      type: errorTable[error.code].type,
      param: error.param === null ? null : bounded(error.param, maxParamLength),
      code: error.code,
    },
  }
}

export interface AnthropicError {
  readonly type: 'error'
  readonly error: Omit<OpenAIError['error'], 'type'> & { readonly type: string }
  readonly request_id: string | null
}

const anthropicTypes: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
  504: 'timeout_error',
}

/** The same as Anthropic's clients expect it. */
export function anthropicError(error: ServerError, requestId: string | null): AnthropicError {
  const { message, param, code } = openAIError(error).error
  const isTheirs = error.status >= 400 && error.status < 500
  const type = anthropicTypes[error.status] ?? (isTheirs ? 'invalid_request_error' : 'api_error')
  return { type: 'error', error: { type, message, param, code }, request_id: requestId }
}

/** Routes of Anthropic's have its errors. */
export function errorOnPath(error: ServerError, path: string, requestId: string): Response {
  const isAnthropic = path === '/v1/messages' || path.startsWith('/v1/messages/')
  return errorResponse(error, {}, isAnthropic ? anthropicError(error, requestId) : undefined)
}

/** Any thrown value as an error that may be shown. */
export function toServerError(error: unknown, logger: Logger, requestId: string): ServerError {
  if (error instanceof ServerError) return error
  logger.error({ err: error, requestId }, 'unexpected error in a request')
  return new ServerError('server_error', 'the server failed on this request; it was logged')
}

export function errorResponse(
  error: ServerError,
  headers: Readonly<Record<string, string>> = {},
  body: OpenAIError | AnthropicError = openAIError(error),
): Response {
  const closes = error.code === 'shutting_down' || error.code === 'request_too_large'
  return new Response(JSON.stringify(body), {
    status: error.status,
    headers: {
      'content-type': 'application/json',
      ...(closes ? { connection: 'close' } : {}),
      ...([429, 503].includes(error.status) ? { 'retry-after': '1' } : {}),
      ...error.headers,
      ...headers,
    },
  })
}
