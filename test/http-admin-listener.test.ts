// --admin-port: which listener answers what, to whom. The sockets are in test/http-process.test.ts.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { HttpConfig } from '../server/http/context.ts'
import { createFront, goodChat, readJson } from './support/front.ts'

const boss = { authorization: 'Bearer boss', 'content-type': 'application/json' }
const address = { public: 'http://127.0.0.1', admin: 'http://127.0.0.1' }

function frontOf(config: Partial<HttpConfig> = {}) {
  const front = createFront({ config: { adminKey: 'boss', adminPort: 9000, ...config } })
  const { hono, admin } = front.app
  return {
    front,
    admin,
    async ask(side: 'public' | 'admin', method: string, path: string, headers: object = boss) {
      const isChat = path === '/v1/chat/completions'
      const body = isChat ? JSON.stringify(goodChat) : method === 'POST' ? '{}' : undefined
      const app = side === 'public' ? hono : admin!
      return app.request(`${address[side]}${path}`, {
        method,
        headers: headers as Record<string, string>,
        ...(body === undefined ? {} : { body }),
      })
    },
  }
}

/** Status on the public listener, then on that of changes. 400: it read the body, which is empty. */
const routes = [
  ['POST', '/v1/chat/completions', 200, 404],
  ['POST', '/v1/completions', 400, 404],
  ['POST', '/v1/moderations', 400, 404],
  ['POST', '/tokenize', 400, 404],
  ['GET', '/v1/models', 200, 404],
  ['GET', '/openapi.json', 200, 404],
  ['GET', '/health/live', 200, 200],
  ['GET', '/health/ready', 200, 200],
  ['GET', '/v1/adapters', 200, 200],
  ['GET', '/v1/adapters/terse', 200, 200],
  ['POST', '/v1/adapters', 404, 400],
  ['DELETE', '/v1/adapters/terse', 404, 200],
  ['GET', '/v1/adapters/merge', 200, 200],
  ['POST', '/v1/adapters/unmerge', 404, 200],
  ['POST', '/v1/adapters/terse/merge', 404, 200],
  ['POST', '/v1/adapters/terse/unmerge', 404, 200],
  ['POST', '/v1/load_lora_adapter', 404, 400],
  ['POST', '/v1/unload_lora_adapter', 404, 400],
  ['POST', '/load_lora_adapter', 404, 400],
  ['POST', '/unload_lora_adapter', 404, 400],
] as const

describe('two listeners', () => {
  it('each answers its own routes, the admin key or not', async () => {
    for (const [method, path, onPublic, onAdmin] of routes) {
      const { ask } = frontOf()
      assert.equal((await ask('public', method, path)).status, onPublic, `public ${path}`)
      assert.equal((await ask('admin', method, path)).status, onAdmin, `admin ${path}`)
    }
  })

  it('no change of the public listener names one more: each admin route is in the list above', () => {
    const { front } = frontOf({ adminPort: null })
    const changes = front.app.routes.filter(({ role }) => role === 'admin')
    assert.ok(changes.length >= 6)
    const { front: split } = frontOf()
    assert.deepEqual(
      split.app.routes.filter(({ role }) => role === 'admin'),
      [],
    )
    for (const { method, path } of changes) {
      const example = path.replace(':id', 'terse')
      assert.ok(
        routes.some(([m, p, onPublic]) => m === method && p === example && onPublic === 404),
        `${method} ${path}`,
      )
    }
  })

  it('the keys are the same: without one a change is refused, and a wrong one is', async () => {
    const { ask } = frontOf({ apiKey: ['user'] })
    const user = { authorization: 'Bearer user' }
    const codes = async (headers: object) => {
      const response = await ask('admin', 'DELETE', '/v1/adapters/terse', headers)
      return (await readJson(response)).error?.code
    }
    assert.equal(await codes({}), 'invalid_api_key')
    assert.equal(await codes({ authorization: 'Bearer wrong' }), 'invalid_api_key')
    assert.equal(await codes(user), 'insufficient_permissions')
    assert.equal(await codes(boss), undefined)
  })

  it('a change at the public port is told where it would be answered', async () => {
    const { ask } = frontOf()
    const { error } = await readJson(await ask('public', 'DELETE', '/v1/adapters/terse'))
    assert.equal(error.code, 'not_found')
    assert.match(error.message, /--admin-port/)
  })

  it('/metrics is public, and with --admin-metrics on at the admin port alone', async () => {
    for (const [adminMetrics, onPublic, onAdmin] of [
      [false, 200, 404],
      [true, 404, 200],
    ] as const) {
      const { ask } = frontOf({ adminMetrics })
      assert.equal((await ask('public', 'GET', '/metrics')).status, onPublic)
      assert.equal((await ask('admin', 'GET', '/metrics')).status, onAdmin)
    }
  })

  it('each has the Host names of its own address', async () => {
    const { ask } = frontOf({ host: '10.0.0.1', adminHost: '10.0.0.2' })
    const of = async (side: 'public' | 'admin', host: string) =>
      (await ask(side, 'GET', '/health/live', { host })).status
    assert.deepEqual([await of('public', '10.0.0.1'), await of('public', '10.0.0.2')], [200, 403])
    assert.deepEqual([await of('admin', '10.0.0.1'), await of('admin', '10.0.0.2')], [403, 200])
  })

  it('openapi.json of the public listener has no changes', async () => {
    const { ask } = frontOf()
    const { paths } = await readJson(await ask('public', 'GET', '/openapi.json'))
    assert.ok(paths['/v1/chat/completions'] !== undefined)
    assert.equal(paths['/v1/load_lora_adapter'], undefined)
    assert.deepEqual(Object.keys(paths['/v1/adapters']), ['get'])
  })

  it('without the flag one listener answers all', async () => {
    const { ask, admin } = frontOf({ adminPort: null })
    assert.equal(admin, null)
    assert.equal((await ask('public', 'DELETE', '/v1/adapters/terse')).status, 200)
  })
})
