// Changes of the weights as clients ask for them: who may, what a body may be, and what is answered. The
// engine is a fake one.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type MergeReport, noMerge } from '../server/contracts/engine.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { ServerError } from '../server/errors.ts'
import { accepted, createFakeEngine, digestOf, done, fakeModel } from './support/fake-engine.ts'
import { createFront, readJson } from './support/front.ts'

const admin = { authorization: 'Bearer boss' }
const merged = [{ id: 'safety-r1', digest: digestOf('safety-r1'), scale: 1.5 }]
const report: MergeReport = { outcome: 'merged', merged, difference: null, seconds: 1 }

function createWorld() {
  const engine = createFakeEngine()
  const front = createFront({ engine, config: { adminKey: 'boss', apiKey: ['reader'] } })
  return {
    engine,
    async ask(
      method: string,
      path: string,
      body: unknown = undefined,
      headers: Readonly<Record<string, string>> = admin,
    ) {
      const isJson = body !== undefined
      const response = await front.request(path, {
        method,
        headers: isJson ? { ...headers, 'content-type': 'application/json' } : headers,
        ...(isJson && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      })
      const answer = await readJson(response)
      return {
        status: response.status,
        answer,
        headers: response.headers,
        code: answer.error?.code,
      }
    },
  }
}

describe('a merge', () => {
  for (const [what, path, body, change] of [
    [
      'without a body',
      'a/merge',
      undefined,
      { kind: 'merge', id: 'a', scale: null, drains: false },
    ],
    ['of no fields', 'a/merge', {}, { kind: 'merge', id: 'a', scale: null, drains: false }],
    ['by scale', 'a/merge', { scale: 0.5 }, { kind: 'merge', id: 'a', scale: 0.5, drains: false }],
    [
      'by strength',
      'a/merge',
      { strength: 4 },
      { kind: 'merge', id: 'a', scale: 4, drains: false },
    ],
    [
      'that drains',
      'a/merge',
      { mode: 'drain', scale: null },
      { kind: 'merge', id: 'a', scale: null, drains: true },
    ],
    ['undone', 'a/unmerge', { mode: 'beside' }, { kind: 'unmerge', id: 'a', drains: false }],
    ['undone, all', 'unmerge', { mode: 'drain' }, { kind: 'unmerge', id: null, drains: true }],
  ] as const) {
    it(`${what} reaches the engine`, async () => {
      const { engine, ask } = createWorld()
      const { status, answer } = await ask('POST', `/v1/adapters/${path}`, body)
      assert.deepEqual([status, answer.outcome], [200, 'unchanged'])
      assert.deepEqual(engine.merges, [change])
    })
  }

  for (const [what, path, body, expected, param] of [
    ['of strength 0', 'a/merge', { scale: 0 }, '400 invalid_value', 'scale'],
    ['of a negative strength', 'a/merge', { scale: -1 }, '400 invalid_value', 'scale'],
    ['of too much', 'a/merge', { strength: 4.1 }, '400 invalid_value', 'strength'],
    ['of a word', 'a/merge', { scale: '1' }, '400 invalid_value', 'scale'],
    ['of two strengths', 'a/merge', { scale: 1, strength: 2 }, '400 invalid_value', 'strength'],
    ['in another mode', 'a/merge', { mode: 'fast' }, '400 invalid_value', 'mode'],
    ['with a misspelt field', 'a/merge', { scal: 1 }, '400 unsupported_parameter', 'scal'],
    ['by OrthoMerge', 'a/merge', { k: 2, lambda: 1 }, '400 unsupported_parameter', 'k'],
    ['undone, with a strength', 'unmerge', { scale: 1 }, '400 unsupported_parameter', 'scale'],
    ['of a list', 'a/merge', [], '400 invalid_request', null],
    ['of no JSON', 'a/merge', '{', '400 invalid_json', null],
    ['of none', 'none/merge', {}, '404 model_not_found', 'id'],
    ['of a path', '..%2fa/merge', {}, '404 model_not_found', 'id'],
    ['of a long name', `${'a'.repeat(65)}/merge`, {}, '404 model_not_found', 'id'],
    ['with a wait that is none', 'a/merge?wait=-1', {}, '400 invalid_value', 'wait'],
    ['with a wait of days', 'a/merge?wait=3601', {}, '400 invalid_value', 'wait'],
  ] as const) {
    it(`${what} is refused`, async () => {
      const { engine, ask } = createWorld()
      const { status, code, answer } = await ask('POST', `/v1/adapters/${path}`, body)
      assert.equal(`${status} ${code}`, expected)
      assert.equal(answer.error.param, param)
      assert.deepEqual(engine.merges, [])
    })
  }

  it('says where OrthoMerge is done', async () => {
    const { answer } = await createWorld().ask('POST', '/v1/adapters/a/merge', { orthomerge: {} })
    assert.match(answer.error.message, /npm run orthomerge/)
  })

  it('is for the role admin', async () => {
    const { engine, ask } = createWorld()
    for (const path of ['a/merge', 'a/unmerge', 'unmerge']) {
      const reader = { authorization: 'Bearer reader' }
      const { status, code } = await ask('POST', `/v1/adapters/${path}`, {}, reader)
      assert.deepEqual([status, code], [403, 'insufficient_permissions'])
      assert.equal((await ask('POST', `/v1/adapters/${path}`, {}, {})).status, 401)
    }
    assert.deepEqual(engine.merges, [])
  })

  it('tells errors of the engine with their status', async () => {
    for (const [code, status] of [
      ['merge_in_progress', 409],
      ['adapter_not_merged', 409],
      ['merge_unverified', 500],
      ['memory_full', 507],
    ] as const) {
      const { engine, ask } = createWorld()
      engine.changeMerge = async () => {
        throw new ServerError(code, 'because')
      }
      const { status: got, answer } = await ask('POST', '/v1/adapters/a/merge', {})
      assert.deepEqual([got, answer.error.code, answer.error.message], [status, code, 'because'])
    }
  })

  it('that takes longer than who asks waits goes on, and is seen', async () => {
    const { engine, ask } = createWorld()
    const ending = createDeferred<MergeReport>()
    engine.changeMerge = (change) => {
      engine.mergeStatus = { ...noMerge, phase: 'starting', change }
      return ending.promise
    }
    const { status, answer } = await ask('POST', '/v1/adapters/a/merge?wait=0', { scale: 2 })
    assert.deepEqual([status, answer.state, answer.change.scale], [202, 'starting', 2])
    assert.deepEqual((await ask('GET', '/v1/adapters/merge')).answer, answer)
    ending.reject(new ServerError('merge_failed', 'told in the log'))
    assert.equal((await ask('GET', '/v1/adapters/merge')).status, 200)
  })

  it('is answered with its report', async () => {
    const { engine, ask } = createWorld()
    engine.changeMerge = async () => report
    assert.deepEqual((await ask('POST', '/v1/adapters/a/merge')).answer, report)
  })
})

describe('an engine with merged adapters', () => {
  function createMerged() {
    const world = createWorld()
    world.engine.model = { ...fakeModel, merged }
    world.engine.script = async function* (request) {
      yield { ...accepted(request), merged: [{ ...merged[0]!, hot: -1.5 }] } as never
      yield done
    }
    return world
  }
  const chat = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }] }
  const adaptersOf = async (path: string, body: object = chat) => {
    const { engine, ask } = createMerged()
    const { status } = await ask('POST', path, body)
    assert.equal(status, 200)
    return engine.requests[0]!.adapters.map(({ id, scale }) => `${id}:${scale}`)
  }
  const chats = '/v1/chat/completions'

  it('applies them, at their strength, to who names none; `none` is none', async () => {
    assert.deepEqual(await adaptersOf(chats), ['safety-r1:1.5'])
    assert.deepEqual(await adaptersOf(`${chats}?adapter=safety-r1`), ['safety-r1:null'])
    assert.deepEqual(await adaptersOf(`${chats}?adapter=terse`), ['terse:null'])
    assert.deepEqual(await adaptersOf(`${chats}?adapter=none`), [])
    assert.deepEqual(await adaptersOf(chats, { ...chat, model: 'tiny:none' }), [])
  })

  it('knows their names, though their folders are gone', async () => {
    const { engine, ask } = createMerged()
    engine.adapters = []
    for (const query of ['', '?adapter=safety-r1:2']) {
      assert.equal((await ask('POST', `${chats}${query}`, chat)).status, 200)
    }
    assert.equal((await ask('POST', `${chats}?adapter=terse`, chat)).status, 404)
  })

  it('attests how an answer was made', async () => {
    const { ask } = createMerged()
    const { answer, headers } = await ask('POST', `${chats}?adapter=none`, chat)
    const digest = merged[0]!.digest.slice(0, 12)
    assert.deepEqual(answer.adapter, [])
    assert.deepEqual(answer.merged, [{ id: 'safety-r1', scale: 1.5, hot: -1.5, digest }])
    assert.equal(headers.get('x-merged'), `safety-r1@${digest};scale=1.5;hot=-1.5`)
    assert.equal(headers.get('x-adapter'), 'none')
  })

  it('attests it of an answer to several prompts, too', async () => {
    const { ask } = createMerged()
    const { answer } = await ask('POST', '/v1/completions', { model: 'tiny', prompt: ['a', 'b'] })
    assert.equal(answer.merged[0].hot, -1.5)
  })

  it('lists them', async () => {
    const { ask } = createMerged()
    assert.deepEqual((await ask('GET', '/v1/adapters/merge')).answer.merged, merged)
    assert.deepEqual((await ask('GET', '/v1/models')).answer.data[0].merged, merged)
    assert.equal((await ask('GET', '/v1/adapters/safety-r1')).answer.mergedScale, 1.5)
    const { data } = (await ask('GET', '/v1/adapters')).answer
    assert.deepEqual(
      data.map(({ mergedScale }: { mergedScale?: number }) => mergedScale),
      [1.5, undefined, undefined],
    )
  })
})
