// JSON bodies against the front in this process, over a fake engine that is always ready: so no
// answer may be a 5xx, nothing may be logged as our bug, and the next good request is answered.

import assert from 'node:assert/strict'
import { createFront, goodChat, parseEvents } from '../support/front.ts'
import { checkErrorBody } from './claims.ts'
import { type BodyRequest, bodyRequests } from './request-bodies.ts'
import type { Target } from './target.ts'

const goodEvery = 20

export const frontTarget: Target<BodyRequest> = {
  name: 'front',
  inputs: bodyRequests('tiny'),
  open() {
    const front = createFront()
    let numChecked = 0
    return {
      async check({ path, method, contentType, body }) {
        const hasBody = method !== 'GET'
        const response = await front.request(path, {
          method,
          headers: contentType ? { 'content-type': contentType } : {},
          ...(hasBody ? { body } : {}),
        })
        await checkAnswer(response)
        const bug = front.log.splice(0).find(({ level }) => level === 'error')
        assert.equal(bug, undefined, String(bug?.fields.err ?? bug?.message))
        if (++numChecked % goodEvery > 0) return
        const next = await front.post('/v1/chat/completions', goodChat)
        assert.equal(next.status, 200, 'the next good request')
        await next.text()
        assert.equal(front.app.admission.numInFlight, 0)
      },
      close() {},
    }
  },
}

/** Shared with the target that is a server of its own. */
export async function checkAnswer(response: Response): Promise<void> {
  const text = await response.text()
  assert.ok(response.status < 500, `status ${response.status}: ${text}`)
  assert.ok(response.headers.get('x-request-id'), 'no x-request-id')
  if (response.status >= 400) {
    assert.equal(response.headers.get('content-type'), 'application/json')
    checkErrorBody(response.status, text)
  } else if (response.headers.get('content-type')?.startsWith('text/event-stream')) {
    const events = parseEvents(text)
    assert.equal(events.at(-1), '[DONE]')
    assert.ok(
      !text.includes('"error"') || !events.some((one) => one !== '[DONE]' && 'error' in one),
    )
  } else if (response.headers.get('content-type')?.startsWith('application/json')) {
    JSON.parse(text)
  }
}
