// The same bodies against the real server with the embedded model, a process of its own.

import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { within } from '../support/deadline.ts'
import { startServer } from '../support/real-server.ts'
import { checkErrorBody } from './claims.ts'
import { checkAnswer } from './front-target.ts'
import { type BodyRequest, bodyRequests, goodBodies } from './request-bodies.ts'
import type { Target } from './target.ts'

const model = 'tiny-reasoner'
const patience = 30_000
const goodEvery = 25
const chat = '/v1/chat/completions'
const flags = ['--max-batch', '4', '--threads', '1', '--kv-memory', '256MiB']

export const serverTarget: Target<BodyRequest> = {
  name: 'server',
  inputs: bodyRequests(model).map((request) => ({ ...request, body: boundTokens(request.body) })),
  async open() {
    const cache = join(tmpdir(), 'dutyfree-fuzz-cache')
    const server = await startServer(['--cache-dir', cache, ...flags])
    let numChecked = 0

    /** A 503 that says when to try again is declared: it is tried again. */
    async function send(request: BodyRequest): Promise<Response> {
      const { path, method, contentType, body } = request
      const response = await fetch(new URL(path, server.url), {
        method,
        headers: contentType ? { 'content-type': contentType } : {},
        ...(method === 'GET' ? {} : { body }),
      })
      const seconds = response.headers.get('retry-after')
      if (response.status !== 503 || seconds === null) return response
      checkErrorBody(503, await response.text())
      await setTimeout(1000 * Number(seconds))
      return send(request)
    }

    return {
      async check(request) {
        const asked = send(request).then(checkAnswer)
        await within(patience, 'answer', asked)
        if (++numChecked % goodEvery > 0) return
        const body = JSON.stringify(goodBodies(model)[chat]![0])
        const next = send({ path: chat, method: 'POST', contentType: 'application/json', body })
        assert.equal((await within(patience, 'next good answer', next)).status, 200)
      },
      async close() {
        await server.stop()
      },
    }
  },
}

/** Answers of a whole context take seconds each; what lets a body have one is set to a few tokens. */
function boundTokens(body: string): string {
  let json: Record<string, unknown>
  try {
    json = JSON.parse(body)
  } catch {
    return body
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return body
  const asked = json.max_tokens ?? json.max_completion_tokens
  if (typeof asked === 'number' && asked <= 8) return body
  return JSON.stringify({ ...json, max_tokens: 2, max_completion_tokens: undefined })
}
