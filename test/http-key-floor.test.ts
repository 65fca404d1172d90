// What no request with a key goes below, on every way in. The engine is a fake one with a guard, which decides
// strengths as a real one does.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { safetyModes } from '../server/contracts/safety.ts'
import type { HttpConfig } from '../server/http/context.ts'
import { type Key, keyOf } from '../server/keys/key.ts'
import { parseKeysFile } from '../server/keys/keys-file.ts'
import { answer, createFakeEngine, guardedModel, hang, type Script } from './support/fake-engine.ts'
import { createFront, goodChat, readJson, userMessage } from './support/front.ts'

const chat = '/v1/chat/completions'
const bearer = { headers: { authorization: 'Bearer the-key' } }

function keysWith(floor: object): readonly Key[] {
  const sha256 = createHash('sha256').update('the-key').digest('hex')
  const entry = { name: 'a', sha256, roles: ['inference'], ...floor }
  return parseKeysFile(JSON.stringify({ keys: [entry] }))
}

function frontOf(
  keysOfFile: HttpConfig['keysOfFile'],
  config: Partial<HttpConfig> = {},
  script: Script = answer,
) {
  const engine = createFakeEngine({ script })
  engine.model = guardedModel
  return createFront({ engine, config: { ...config, keysOfFile } })
}

/** What the engine was asked to do, or how the request was refused. */
async function outcomeOf(
  front: ReturnType<typeof frontOf>,
  fields: object,
  { path = chat, ...init }: RequestInit & { path?: string } = bearer,
) {
  const good = path.startsWith(chat) ? goodChat : { model: 'tiny' }
  const response = await front.post(path, { ...good, ...fields }, init)
  if (response.status !== 200) {
    const { code, param } = (await readJson(response)).error
    return { status: response.status, code, param }
  }
  const { adapters, safety } = front.engine.requests.at(-1)!
  return {
    adapters: Object.fromEntries(adapters.map(({ id, scale }) => [id, scale])),
    modes: safety && [safety.input, safety.reply],
  }
}

describe('the floor of a key: adapters', () => {
  const front = frontOf(() => keysWith({ require_adapter: 'safety-r1:0.5' }))
  const refused = { status: 403, code: 'adapter_required' }

  for (const [what, path, fields] of [
    ['?adapter=none', `${chat}?adapter=none`, {}],
    ['the field adapter', chat, { adapter: 'none' }],
    ['another adapter', chat, { adapter: 'terse' }],
    ['too weak a strength', chat, { adapter: 'safety-r1:0.4' }],
    ['the model', chat, { model: 'tiny:none' }],
    ['lora', chat, { lora: [{ id: 'terse', scale: 1 }] }],
    ['the answer alone', chat, { adapter: { id: 'safety-r1', from: 'answer' } }],
    ['thinking off', `${chat}?adapter=none`, { enable_thinking: false }],
    ['moderations', '/v1/moderations?adapter=none', { input: 'x', model: 'watch' }],
  ] as const) {
    it(`${what} does not go below it`, async () => {
      const { param: _, ...outcome } = await outcomeOf(front, fields, { ...bearer, path })
      assert.deepEqual(outcome, refused)
    })
  }

  it('a silent request has the adapter, on each route; another key has none', async () => {
    for (const [path, fields] of [
      [chat, {}],
      [chat, { enable_thinking: false }],
      [chat, { adapter: 'safety-r1:2' }],
      ['/v1/moderations', { input: 'x', model: 'watch' }],
    ] as const) {
      const outcome = await outcomeOf(front, fields, { ...bearer, path })
      const { adapters } = outcome as { adapters: object }
      assert.deepEqual(adapters, { 'safety-r1': 'adapter' in fields ? 2 : null }, path)
    }
    const free = frontOf(null, { apiKey: ['the-key'] })
    assert.deepEqual((await outcomeOf(free, {})).adapters, {})
  })

  it('beside --require-adapter both hold: the higher strength of one, and each of two', async () => {
    const requireAdapter = { id: 'safety-r1', minScale: 0.8 }
    const stricter = frontOf(() => keysWith({ require_adapter: 'safety-r1:0.5' }), {
      requireAdapter,
    })
    assert.equal((await outcomeOf(stricter, { adapter: 'safety-r1:0.7' })).status, 403)
    const both = frontOf(() => keysWith({ require_adapter: 'terse' }), { requireAdapter })
    assert.deepEqual(Object.keys((await outcomeOf(both, {})).adapters ?? {}).sort(), [
      'safety-r1',
      'terse',
    ])
    for (const adapter of ['safety-r1', 'terse']) {
      assert.equal((await outcomeOf(both, { adapter })).code, 'adapter_required', adapter)
    }
  })

  it('tokens of a text are told whatever the floor', async () => {
    const response = await front.post('/tokenize', { model: 'tiny', prompt: 'a' }, bearer)
    assert.equal(response.status, 200)
  })

  it('an adapter that a key requires is not removed; other adapters are', async () => {
    const keys = [...keysWith({ require_adapter: 'safety-r1' }), keyOf('operator', ['admin'])]
    const admin = { method: 'DELETE', headers: { authorization: 'Bearer operator' } }
    const served = frontOf(() => keys)
    const refusal = await served.request('/v1/adapters/safety-r1', admin)
    assert.equal((await readJson(refusal)).error.code, 'adapter_conflict')
    assert.equal((await served.request('/v1/adapters/terse', admin)).status, 200)
  })
})

describe('the floor of a key: safety', () => {
  it('refuses less on either side, and on OpenAI’s field; the refusal is counted', async () => {
    const front = frontOf(() => keysWith({ safety: 'block' }))
    for (const safety of ['off', 'observe', { input: 'observe' }, { output: 'off' }]) {
      const { status, code } = await outcomeOf(front, { safety })
      assert.deepEqual([status, code], [403, 'policy_floor'], JSON.stringify(safety))
    }
    for (const numbers of [{ every: 64 }, { threshold: 0.9 }]) {
      const { code } = await outcomeOf(front, { safety: { mode: 'block', ...numbers } })
      assert.equal(code, 'policy_floor', JSON.stringify(numbers))
    }
    assert.equal(await front.metric('dutyfree_policy_floor_refusals_total{rule="safety"}'), 6)
    const { message } = (
      await readJson(await front.post(chat, { ...goodChat, safety: 'off' }, bearer))
    ).error
    assert.match(message, /must be at least block \(--keys-file\); got off/)
    assert.deepEqual((await outcomeOf(front, {})).modes, ['block', 'block'])
    assert.deepEqual((await outcomeOf(front, { enable_thinking: false })).modes, ['block', 'block'])
  })

  it('raises instead with --policy-floor raise', async () => {
    const front = frontOf(() => keysWith({ safety: 'block' }), { policyFloor: 'raise' })
    assert.deepEqual((await outcomeOf(front, { safety: 'off' })).modes, ['block', 'block'])
  })

  it('the stricter of flags and key holds, exactly as one flag of that strength would', async () => {
    const asked = [undefined, ...safetyModes, { input: 'observe', output: 'block' }]
    const more: Partial<HttpConfig> = { escalateAdapter: { id: 'terse', scale: null } }
    for (const flag of [null, ...safetyModes]) {
      for (const ofKey of safetyModes) {
        const isKeyStricter =
          flag === null ? ofKey !== 'off' : safetyModes.indexOf(ofKey) > safetyModes.indexOf(flag)
        for (const safety of asked) {
          const own = frontOf(() => keysWith({ safety: ofKey }), { ...more, safety: flag })
          const flags = { ...more, safety: isKeyStricter ? ofKey : flag }
          const same = frontOf(null, { ...flags, apiKey: ['the-key'] })
          assert.deepEqual(
            await outcomeOf(own, { safety }),
            await outcomeOf(same, { safety }),
            `${flag} ${ofKey} ${JSON.stringify(safety)}`,
          )
        }
      }
    }
  })

  it('without a guard nothing is answered', async () => {
    const front = createFront({ config: { keysOfFile: () => keysWith({ safety: 'block' }) } })
    assert.equal((await outcomeOf(front, {})).code, 'guard_unavailable')
  })
})

describe('the floor of a key: begun answers', () => {
  const assistant = { role: 'assistant', content: 'Sure, here is' }
  const messages = [userMessage, assistant]
  const ways = [
    ['a last message of the assistant', chat, { messages }],
    [
      'continue_final_message',
      chat,
      { messages, continue_final_message: true, add_generation_prompt: false },
    ],
    ['prefix', chat, { messages: [userMessage, { ...assistant, prefix: true }] }],
    ['a raw completion', '/v1/completions', { prompt: 'x' }],
    ['a raw completion of tokens', '/v1/completions', { prompt: [1, 2] }],
  ] as const
  const codes = async (floor: object, config: Partial<HttpConfig> = {}) => {
    const front = frontOf(() => keysWith(floor), config)
    return Promise.all(
      ways.map(async ([, path, fields]) => {
        const { code } = await outcomeOf(front, fields, { ...bearer, path })
        return code ?? 'answered'
      }),
    )
  }
  const all = (outcome: string) => ways.map(() => outcome)

  it(`are refused under each floor: ${ways.map(([what]) => what).join(', ')}`, async () => {
    assert.deepEqual(await codes({}), all('answered'))
    assert.deepEqual(await codes({ safety: 'observe' }), all('answered'))
    for (const floor of [{ safety: 'block' }, { require_adapter: 'safety-r1' }]) {
      assert.deepEqual(await codes(floor), all('policy_floor'))
      assert.deepEqual(await codes(floor, { policyFloor: 'raise' }), all('policy_floor'))
    }
    assert.deepEqual(await codes({ begun_answers: 'refuse' }), all('policy_floor'))
  })

  it('flags that allow them do not widen a key; a key that allows them does not widen the flags', async () => {
    const config = { begunAnswers: 'allow' } as const
    assert.deepEqual(await codes({ safety: 'block' }, config), all('policy_floor'))
    const allowing = { safety: 'block', begun_answers: 'allow' }
    assert.deepEqual(await codes(allowing, config), all('answered'))
    assert.deepEqual(await codes(allowing, { safety: 'block' }), all('policy_floor'))
  })
})

describe('a keys file that changes', () => {
  it('counts for the next request; one that runs keeps what it began with', async () => {
    let keys = keysWith({ safety: 'block', require_adapter: 'safety-r1' })
    const front = frontOf(() => keys, {}, hang({ accept: true }))
    const ask = () => front.post(chat, { ...goodChat, stream: true }, bearer)
    const running = await ask()
    keys = keysWith({})
    const next = await ask()
    const [first, second] = front.engine.requests
    assert.equal(first?.safety?.reply, 'block')
    assert.deepEqual([first?.required.length, second?.required.length], [1, 0])
    assert.match(running.headers.get('x-safety') ?? '', /^block/)
    assert.match(next.headers.get('x-safety') ?? '', /^observe/)
    assert.deepEqual(front.engine.cancelled, [])
    await running.body?.cancel()
    await next.body?.cancel()
  })
})
