// Who may call: keys, hosts, origins. Routes are discovered, so a new one cannot be forgotten.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, it } from 'node:test'
import { openPaths } from '../server/http/access/auth.ts'
import type { HttpConfig } from '../server/http/context.ts'
import { createFront, goodChat, readJson } from './support/front.ts'

const chat = '/v1/chat/completions'
const bearer = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })

describe('with an API key', () => {
  const front = createFront({ config: { apiKey: ['first-key', 'second-key'] } })
  const paths = [...new Set(front.app.hono.routes.map(({ path }) => path))]
    .filter((path) => path.startsWith('/') && path !== '/*')
    .map((path) => path.replace(':id', 'tiny'))

  it('discovers every route', () => {
    assert.ok(paths.includes(chat) && paths.includes('/metrics') && paths.includes('/tokenize'))
    assert.ok(paths.length >= 12)
  })

  for (const path of paths.filter((candidate) => !openPaths.has(candidate))) {
    it(`${path} is 401 without and with a wrong key, whatever the method`, async () => {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'HEAD']) {
        for (const init of [{}, bearer('wrong'), bearer('first-kez')]) {
          const response = await front.request(path, { method, ...init })
          assert.equal(response.status, 401, method)
          if (method === 'HEAD') continue
          const { error } = await readJson(response)
          assert.equal(error.code, 'invalid_api_key')
          assert.equal(error.type, 'authentication_error')
        }
      }
    })
  }

  it('health needs none', async () => {
    for (const path of openPaths) assert.equal((await front.request(path)).status, 200, path)
  })

  it('no spelling of a path widens the exception', async () => {
    const spellings = [
      '/v1/models/',
      '//v1/models',
      '/V1/models',
      '/health/',
      '//health',
      '/Health',
    ]
    for (const path of [...spellings, '/health/../v1/models', '/health/live/x', '/health%2flive']) {
      const { status } = await front.request(path)
      assert.equal(status, 401, path)
    }
  })

  it('the header is "Bearer <key>": scheme in any case, spaces free, nothing else', async () => {
    const status = async (authorization: string) =>
      (await front.request('/v1/models', { headers: { authorization } })).status
    for (const good of ['Bearer first-key', 'bearer second-key', 'BEARER  first-key']) {
      assert.equal(await status(good), 200, good)
    }
    const bad = ['first-key', 'Basic first-key', 'Bearer', 'Bearerfirst-key', 'Bearer first-key x']
    for (const header of [...bad, 'Bearer First-Key', 'Bearer first-key,second-key']) {
      assert.equal(await status(header), 401, header)
    }
  })

  it('an unknown path is 401 too, so that none can be told apart', async () => {
    assert.equal((await front.request('/v1/nothing')).status, 401)
  })
})

describe('a client, for fairness,', () => {
  async function clientOf(apiKey: readonly string[] | null, init: RequestInit, address?: string) {
    const front = createFront({ config: { apiKey: apiKey === null ? null : [...apiKey] } })
    const body = JSON.stringify(goodChat)
    const incoming = Object.assign(Readable.from([Buffer.from(body)]), {
      socket: { remoteAddress: address },
    })
    const env = { incoming }
    const request = new Request(`http://127.0.0.1${chat}`, {
      method: 'POST',
      body,
      ...init,
      headers: { 'content-type': 'application/json', ...(init.headers as object) },
    })
    await (await front.app.hono.fetch(request, env)).text()
    return front.engine.requests[0]!.turn.client
  }

  it('is a key, whatever the address; neither key nor address can be read from its name', async () => {
    const keys = ['first-key', 'second-key']
    const first = await clientOf(keys, bearer('first-key'), '10.0.0.1')
    assert.equal(await clientOf(keys, bearer('first-key'), '10.0.0.2'), first)
    assert.notEqual(await clientOf(keys, bearer('second-key'), '10.0.0.1'), first)
    assert.doesNotMatch(first, /key|10\.0/)
  })

  it('is the same one whether it asks for an answer or for the tokens of a text', async () => {
    const keys = ['first-key', 'second-key']
    const front = createFront({ config: { apiKey: keys } })
    const clients: string[] = []
    const { tokenize, detokenize } = front.engine
    front.engine.tokenize = (input, turn) => {
      clients.push(turn.client)
      return tokenize(input, turn)
    }
    front.engine.detokenize = (tokens, turn) => {
      clients.push(turn.client)
      return detokenize(tokens, turn)
    }
    for (const key of keys) {
      await front.post('/tokenize', { prompt: 'Hi' }, bearer(key))
      await front.post('/detokenize', { tokens: [1] }, bearer(key))
    }
    const [first, second] = await Promise.all(keys.map((key) => clientOf(keys, bearer(key))))
    assert.deepEqual(clients, [first, first, second, second])
  })

  it('is an address where no key is needed, whatever is sent as one', async () => {
    const first = await clientOf(null, bearer('x'), '10.0.0.1')
    assert.equal(await clientOf(null, bearer('y'), '10.0.0.1'), first)
    assert.notEqual(await clientOf(null, bearer('x'), '10.0.0.2'), first)
    assert.doesNotMatch(first, /10\.0/)
  })
})

describe('origins', () => {
  const config = { apiKey: ['k'], corsOrigins: ['https://app.example'] }
  const preflight = (origin: string, more: Record<string, string> = {}) => ({
    method: 'OPTIONS',
    headers: { origin, 'access-control-request-method': 'POST', ...more },
  })

  it('a true preflight from an allowed origin is 204 without a key', async () => {
    const front = createFront({ config })
    const response = await front.request(
      chat,
      preflight('https://app.example', { 'access-control-request-headers': 'authorization' }),
    )
    assert.equal(response.status, 204)
    assert.equal(response.headers.get('access-control-allow-origin'), 'https://app.example')
    assert.equal(response.headers.get('access-control-allow-headers'), 'authorization')
  })

  it('another origin is 403, a bare OPTIONS 401', async () => {
    const front = createFront({ config })
    assert.equal((await front.request(chat, preflight('https://evil.example'))).status, 403)
    assert.equal((await front.request(chat, { method: 'OPTIONS' })).status, 401)
  })

  it('without --cors-origins nothing is a preflight', async () => {
    const closed = createFront({ config: { apiKey: ['k'] } })
    assert.equal((await closed.request(chat, preflight('https://app.example'))).status, 401)
    const open = createFront()
    assert.equal((await open.request(chat, preflight('https://app.example'))).status, 405)
  })

  it('answers name the allowed origin, errors too', async () => {
    const front = createFront({ config })
    const headers = { origin: 'https://app.example' }
    for (const init of [{ headers }, { headers: { ...headers, authorization: 'Bearer k' } }]) {
      const response = await front.request('/v1/models', init)
      assert.equal(response.headers.get('access-control-allow-origin'), 'https://app.example')
      assert.equal(response.headers.get('vary'), 'origin')
    }
    const other = await front.request('/v1/models', { headers: { origin: 'https://b.example' } })
    assert.equal(other.headers.get('access-control-allow-origin'), null)
  })
})

describe('hosts', () => {
  const status = async (host: string, config = {}) =>
    (await createFront({ config }).request('/health/live', { headers: { host } })).status

  it('bound and loopback names pass with any port, others do not', async () => {
    for (const host of ['127.0.0.1', '127.0.0.1:8000', 'localhost:9', 'LOCALHOST', '[::1]:8000']) {
      assert.equal(await status(host), 200, host)
    }
    for (const host of ['evil.example', 'localhost.evil.example:8000', '127.0.0.1.nip.io']) {
      assert.equal(await status(host), 403, host)
    }
  })

  it('bound to every address any host passes, unless hosts are set', async () => {
    assert.equal(await status('api.example', { host: '0.0.0.0' }), 200)
    const set = { host: '0.0.0.0', allowedHosts: ['api.example'] }
    assert.equal(await status('api.example:443', set), 200)
    assert.equal(await status('evil.example', set), 403)
    assert.equal(await status('evil.example', { allowedHosts: ['*'] }), 200)
  })

  it('a good request works with everything set', async () => {
    const front = createFront({ config: { apiKey: ['k'], allowedHosts: ['api.example'] } })
    const headers = { host: 'api.example', authorization: 'Bearer k' }
    assert.equal((await front.post(chat, goodChat, { headers })).status, 200)
  })
})

describe('who counts as one client', () => {
  /** The client of a request with these headers, as turns know it. */
  async function clientOf(headers: Record<string, string>, config: Partial<HttpConfig> = {}) {
    const front = createFront({ config })
    const response = await front.post(chat, goodChat, { headers })
    assert.equal(response.status, 200)
    return front.engine.requests[0]!.turn.client
  }
  const behindProxy = { clientHeader: 'x-forwarded-for' }
  const forwarded = (value: string) => clientOf({ 'x-forwarded-for': value }, behindProxy)

  it('no header says so unless the operator names one', async () => {
    assert.equal(await clientOf({ 'x-forwarded-for': '10.0.0.1' }), await clientOf({}))
  })

  it('the last hop of the named header does, whatever stands before it', async () => {
    const one = await forwarded('10.0.0.1')
    assert.notEqual(one, await clientOf({}))
    assert.notEqual(one, await forwarded('10.0.0.2'))
    assert.notEqual(one, await forwarded('10.0.0.1, 10.0.0.2'))
    for (const same of ['10.0.0.2, 10.0.0.1', ' x,,10.0.0.1 ', '10.0.0.1:51234']) {
      assert.equal(await forwarded(same), one, same)
    }
    assert.equal(await forwarded('[2001:db8::1]:4711'), await forwarded('2001:db8::1'))
  })

  it('an empty or overlong one counts as none', async () => {
    const none = await clientOf({}, behindProxy)
    for (const odd of ['', ' , ', '10.0.0.1,', 'x'.repeat(257)]) {
      assert.equal(await forwarded(odd), none, odd)
    }
    assert.notEqual(await forwarded(`${'x'.repeat(5000)}, 10.0.0.1`), none)
  })

  it('users behind a proxy that has one key differ; without the header the key decides', async () => {
    const config = { ...behindProxy, apiKey: ['k', 'l'] }
    const withKey = (key: string, more = {}) =>
      clientOf({ ...bearer(key).headers, ...more }, config)
    assert.notEqual(
      await withKey('k', { 'x-forwarded-for': '10.0.0.1' }),
      await withKey('k', { 'x-forwarded-for': '10.0.0.2' }),
    )
    assert.notEqual(await withKey('k'), await withKey('l'))
  })
})
