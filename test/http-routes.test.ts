// Names of models as a client asks for them, and routes that other servers have.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createFakeEngine, fakeModel } from './support/fake-engine.ts'
import { createFront, goodChat, readJson } from './support/front.ts'

const chat = '/v1/chat/completions'

describe('GET /v1/models/{id}', () => {
  it('knows every name that chat takes, and no other', async () => {
    const front = createFront()
    const { data } = await readJson(await front.request('/v1/models'))
    const ids: string[] = data.map(({ id }: { id: string }) => id)
    assert.ok(ids.includes('safety-r1'))
    const names = [...ids, ...ids.slice(1).map((id) => `tiny:${id}`), 'tiny:none']
    for (const model of names) {
      const response = await front.request(`/v1/models/${model}`)
      assert.equal(response.status, 200, model)
      const entry = await readJson(response)
      assert.deepEqual([entry.id, entry.parent], [model, model === 'tiny' ? null : 'tiny'])
      assert.equal((await front.post(chat, { ...goodChat, model })).status, 200, model)
    }
    for (const model of [
      'gpt-4o',
      'tiny:',
      'tiny:unknown',
      'other:safety-r1',
      'safety-r1:tiny',
      'none',
    ]) {
      const asked = await front.post(chat, { ...goodChat, model })
      const response = await front.request(`/v1/models/${model}`)
      assert.deepEqual([response.status, asked.status], [404, 404], model)
      assert.equal((await readJson(response)).error.code, 'model_not_found')
    }
  })

  it('takes an id with a slash, encoded or not', async () => {
    const engine = createFakeEngine()
    engine.model = { ...fakeModel, id: 'org/name' }
    const front = createFront({ engine })
    for (const path of ['org/name', 'org%2Fname', 'org/name:safety-r1', 'org%2Fname:none']) {
      const response = await front.request(`/v1/models/${path}`)
      assert.equal(response.status, 200, path)
      assert.equal((await readJson(response)).id, decodeURIComponent(path))
    }
  })
})

describe('routes that other servers have', () => {
  const front = createFront()
  const paths = [
    'responses/resp_1',
    'responses/resp_1/cancel',
    'embeddings',
    'audio/speech',
    'audio/transcriptions',
    'images/generations',
    'messages/batches',
    'files',
    'batches',
    'fine_tuning/jobs',
    'assistants',
    'threads/t_1/runs',
    'vector_stores',
    'rerank',
    'score',
    'chat/completions/chatcmpl-1',
  ]
  for (const path of [...paths.map((path) => `/v1/${path}`), '/api/chat', '/chat/completions']) {
    it(`${path} is a 400 by name, never a 404`, async () => {
      for (const method of ['POST', 'GET']) {
        const init = method === 'POST' ? { method, body: '{' } : { method }
        const response = await front.request(path, init)
        const { error } = await readJson(response)
        assert.deepEqual([response.status, error.code], [400, 'unsupported_endpoint'])
        assert.equal(response.headers.get('x-should-retry'), 'false')
        assert.match(error.message, /^\/\S+ is not supported by this server: ./)
      }
    })
  }

  it('a route that nobody has is a 404', async () => {
    for (const path of ['/v1/nothing', '/v1/responsesx', '/v1', '/']) {
      assert.equal((await front.request(path, { method: 'POST' })).status, 404, path)
    }
  })

  it('none of them hides a route of this server', async () => {
    for (const { method, path } of front.app.routes) {
      const response = await front.request(path.replaceAll(/:\w+/g, 'tiny'), { method })
      assert.doesNotMatch(await response.text(), /unsupported_endpoint/, path)
      const line = front.log.findLast(({ message }) => message === 'request')
      assert.equal(line?.fields.route, path)
    }
  })
})

describe('routes of vLLM and SageMaker', () => {
  it('tell the version, and what evaluations ask of the tokenizer', async () => {
    const front = createFront()
    const version = await readJson(await front.request('/version'))
    assert.deepEqual(version, { version: '0.0.0-test' })
    const info = await readJson(await front.request('/tokenizer_info'))
    assert.deepEqual(info, {
      eos_token: '<end>',
      chat_template: '{{ messages }}',
      model_max_length: 512,
    })
  })

  it('/ping is 200 without a body once requests are served', async () => {
    const engine = createFakeEngine()
    const front = createFront({ engine })
    const response = await front.request('/ping')
    assert.deepEqual([response.status, await response.text()], [200, ''])
    engine.state = 'restarting'
    assert.equal((await front.request('/ping')).status, 503)
  })
})
