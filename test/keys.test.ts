// Several keys with roles and limits, changed while the server runs.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { checkKeyFloors, type ParsedCommand, parseCommand } from '../server/config.ts'
import { ServerError } from '../server/errors.ts'
import { type Key, roles } from '../server/keys/key.ts'
import { createKeyLimits } from '../server/keys/key-limits.ts'
import { createKeysFile, parseKeysFile } from '../server/keys/keys-file.ts'
import { createFakeEngine, hang } from './support/fake-engine.ts'
import { createFront, goodChat, readJson } from './support/front.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const sha256 = (key: string) => createHash('sha256').update(key).digest('hex')
const entry = (name: string, ofRoles: readonly string[], more: object = {}) => ({
  name,
  sha256: sha256(`key-of-${name}`),
  roles: ofRoles,
  ...more,
})
const textOf = (...keys: object[]) => JSON.stringify({ keys })
const bearer = (name: string) => ({ headers: { authorization: `Bearer key-of-${name}` } })
const frontOf = (keys: readonly Key[], more: object = {}) =>
  createFront({ config: { keysOfFile: () => keys, ...more } })

describe('roles', () => {
  const front = frontOf(parseKeysFile(textOf(...roles.map((role) => entry(role, [role])))))
  const status = async (path: string, name: string, method = 'GET') =>
    (await front.request(path, { method, ...bearer(name) })).status

  it('each opens its own routes, admin all of them', async () => {
    for (const [path, method, allowed] of [
      ['/v1/models', 'GET', ['inference', 'admin']],
      ['/v1/adapters', 'GET', ['inference', 'admin']],
      ['/metrics', 'GET', ['metrics', 'admin']],
      ['/v1/adapters/safety-r1', 'DELETE', ['admin']],
    ] as const) {
      for (const role of roles) {
        const isAllowed = (allowed as readonly string[]).includes(role)
        assert.equal(await status(path, role, method), isAllowed ? 200 : 403, `${role} ${path}`)
      }
      assert.equal((await front.request(path, { method })).status, 401)
      assert.equal(await status(path, 'nobody', method), 401)
    }
  })

  it('a key without the role is told which it needs', async () => {
    const response = await front.request('/v1/models', bearer('metrics'))
    const { error } = await readJson(response)
    assert.deepEqual([error.code, error.type], ['insufficient_permissions', 'permission_error'])
    assert.match(error.message, /needs the role inference; the key has metrics/)
  })

  it('health needs no key', async () => {
    assert.equal((await front.request('/health')).status, 200)
  })
})

describe('the keys file', () => {
  const bad: readonly (readonly [string, RegExp])[] = [
    ['{', /not JSON/],
    ['[]', /the file: /],
    ['{"keys": [{}]}', /keys\.0\.name/],
    [textOf(entry('a b', ['admin'])), /keys\.0\.name: must be/],
    [textOf({ ...entry('a', ['admin']), sha256: 'plain-key' }), /keys\.0\.sha256/],
    [textOf(entry('a', [])), /keys\.0\.roles/],
    [textOf(entry('a', ['root'])), /keys\.0\.roles\.0/],
    [textOf(entry('a', ['admin'], { max_concurrent: 0 })), /max_concurrent/],
    [textOf(entry('a', ['admin'], { typo: 1 })), /typo/],
    [textOf(entry('a', ['admin'], { require_adapter: '../x' })), /require_adapter of "a" must be/],
    [textOf(entry('a', ['admin']), entry('a', ['metrics'], { sha256: sha256('x') })), /one name/],
    [textOf(entry('a', ['admin']), { ...entry('a', ['admin']), name: 'b' }), /one sha256/],
  ]
  for (const [text, message] of bad) {
    it(`${text.slice(0, 60)} is refused by name`, () => {
      assert.throws(
        () => parseKeysFile(text),
        (error) => {
          assert.ok(error instanceof ServerError && error.code === 'invalid_config')
          assert.match(error.message, message)
          assert.doesNotMatch(error.message, /plain-key/)
          return true
        },
      )
    })
  }

  it('carries the floor of a key', () => {
    const floor = { safety: 'block', require_adapter: 'safety-r1:0.5', begun_answers: 'allow' }
    const [key] = parseKeysFile(textOf(entry('a', ['inference'], floor)))
    const requireAdapter = { id: 'safety-r1', minScale: 0.5 }
    assert.deepEqual(key?.floor, { safety: 'block', requireAdapter, begunAnswers: 'allow' })
  })

  it('with a floor that the flags cannot hold is refused at the start, and later leaves the keys of before', () => {
    const path = join(temp, 'floor.json')
    const escalating = entry('a', ['inference'], { safety: 'escalate' })
    const { config } = parseCommand([], {}) as Extract<ParsedCommand, { kind: 'serve' }>
    let nowMs = 0
    const broken: string[] = []
    const open = () =>
      createKeysFile({
        path,
        check: (keys) => checkKeyFloors(config, keys),
        monotonicMs: () => nowMs,
        onChange() {},
        onBroken: (why) => broken.push(why),
      })
    writeFileSync(path, textOf(escalating))
    const message = '--keys-file safety of "a": escalate needs --escalate-adapter'
    assert.throws(open, { code: 'invalid_config', message })
    writeFileSync(path, textOf(entry('b', ['inference'], { safety: 'block' })))
    const keys = open()
    writeFileSync(path, textOf(escalating, entry('b', ['inference'])))
    nowMs += 1000
    assert.deepEqual(
      keys().map(({ name, floor }) => [name, floor.safety]),
      [['b', 'block']],
    )
    assert.deepEqual(broken, [message])
  })

  for (const [flags, safety, message] of [
    [['--guard', 'none'], 'observe', /safety of "a": observe needs a guard; got --guard none/],
    [
      ['--guard', 'http://127.0.0.1:1/v1', '--guard-model', 'x', '--escalate-adapter', 'y'],
      'escalate',
      /safety of "a": escalate needs a guard of the adapters folder/,
    ],
  ] as const) {
    it(`safety ${safety} with ${flags[1]} is refused by name`, () => {
      const { config } = parseCommand(flags, {}) as Extract<ParsedCommand, { kind: 'serve' }>
      const keys = parseKeysFile(textOf(entry('a', ['inference'], { safety })))
      assert.throws(() => checkKeyFloors(config, keys), { code: 'invalid_config', message })
      checkKeyFloors(config, parseKeysFile(textOf(entry('a', ['inference'], { safety: 'off' }))))
    })
  }

  it('is looked at again: keys come, change places and go; a broken one leaves those of before', async () => {
    const path = join(temp, 'keys.json')
    let nowMs = 0
    const changes: number[] = []
    const broken: string[] = []
    assert.throws(() => open(), /cannot be read \(ENOENT\)/)
    function open() {
      return createKeysFile({
        path,
        check() {},
        monotonicMs: () => nowMs,
        onChange: (count) => changes.push(count),
        onBroken: (why) => broken.push(why),
      })
    }
    writeFileSync(path, textOf(entry('a', ['inference'])))
    const keys = open()
    const front = createFront({ config: { keysOfFile: keys } })
    const namesNow = () => keys().map(({ name }) => name)
    writeFileSync(path, textOf(entry('a', ['inference']), entry('next', ['inference'])))
    assert.deepEqual(namesNow(), ['a'])
    nowMs += 1000
    assert.deepEqual(namesNow(), ['a', 'next'])
    writeFileSync(path, '{ half')
    nowMs += 1000
    assert.deepEqual(namesNow(), ['a', 'next'])
    rmSync(path)
    nowMs += 1000
    assert.deepEqual(namesNow(), ['a', 'next'])
    writeFileSync(path, textOf(entry('next', ['inference'])))
    nowMs += 1000
    assert.deepEqual([namesNow(), changes, broken.length], [['next'], [2, 1], 2])
    for (const [name, status] of [
      ['a', 401],
      ['next', 200],
    ] as const) {
      assert.equal((await front.request('/v1/models', bearer(name))).status, status)
    }
  })

  it('takes two digests of one key, the old and the next', async () => {
    const both = { sha256: [sha256('key-of-old'), sha256('key-of-new')] }
    const front = frontOf(parseKeysFile(textOf(entry('a', ['inference'], both))))
    for (const name of ['old', 'new']) {
      assert.equal((await front.request('/v1/models', bearer(name))).status, 200)
    }
  })
})

describe('limits of a key', () => {
  const keyWith = (more: object) => parseKeysFile(textOf(entry('a', ['inference'], more)))[0]!

  it('a request beyond max_concurrent is 429, until one has ended; other keys go on', async () => {
    const keys = parseKeysFile(
      textOf(entry('a', ['inference'], { max_concurrent: 1 }), entry('b', ['inference'])),
    )
    const engine = createFakeEngine({ script: hang({ accept: true }) })
    const front = createFront({ engine, config: { keysOfFile: () => keys } })
    const chat = (name: string) =>
      front.post('/v1/chat/completions', { ...goodChat, stream: true }, bearer(name))
    const running = await chat('a')
    const refused = await chat('a')
    assert.deepEqual([refused.status, refused.headers.get('retry-after')], [429, '1'])
    assert.match((await readJson(refused)).error.message, /1 requests of this key run/)
    const other = await chat('b')
    assert.equal(other.status, 200)
    await running.body?.cancel()
    await other.body?.cancel()
  })

  it('a request is let in again when the one before has ended', async () => {
    const front = frontOf([keyWith({ max_concurrent: 1 })])
    for (let i = 0; i < 3; i++) {
      const response = await front.post('/v1/chat/completions', goodChat, bearer('a'))
      assert.equal(response.status, 200)
    }
  })

  it('tokens are booked when a request ends; who has overdrawn waits as Retry-After says', () => {
    let nowMs = 0
    const limits = createKeyLimits(() => nowMs)
    const key = keyWith({ tokens_per_minute: 60 })
    const ticket = limits.enter(key)
    ticket.spend(89)
    ticket.release()
    const refusal = () => {
      try {
        limits.enter(key).release()
        return null
      } catch (error) {
        return (error as ServerError).headers['retry-after']
      }
    }
    assert.equal(refusal(), '30')
    nowMs += 29_000
    assert.equal(refusal(), '1')
    nowMs += 1000
    assert.equal(refusal(), null)
    nowMs += 3_600_000
    limits.enter(key).spend(60)
    assert.equal(refusal(), '1')
  })

  it('prompt and answer count', async () => {
    const front = frontOf([keyWith({ tokens_per_minute: 10 })])
    const chat = () => front.post('/v1/chat/completions', goodChat, bearer('a'))
    assert.equal((await chat()).status, 200)
    const refused = await chat()
    assert.equal(refused.status, 429)
    assert.match((await readJson(refused)).error.message, /10 tokens a minute \(--keys-file\)/)
  })
})
