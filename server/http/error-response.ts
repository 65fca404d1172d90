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

/** Any thrown value as an error that may be shown. */
export function toServerError(error: unknown, logger: Logger, requestId: string): ServerError {
  if (error instanceof ServerError) return error
  logger.error({ err: error, requestId }, 'unexpected error in a request')
  return new ServerError('server_error', 'the server failed on this request; it was logged')
}

export function errorResponse(
  error: ServerError,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const closes = error.code === 'shutting_down' || error.code === 'request_too_large'
  return new Response(JSON.stringify(openAIError(error)), {
    status: error.status,
    headers: {
      'content-type': 'application/json',
      ...(closes ? { connection: 'close' } : {}),
      ...(error.status === 503 ? { 'retry-after': '1' } : {}),
      ...error.headers,
      ...headers,
    },
  })
}
