// A keys file and a port for changes on the server as users start it, over the real engine.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { cpSync, mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { within } from './support/deadline.ts'
import { readJson } from './support/front.ts'
import { type RealServer, startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

const patience = 30_000
const temp = createTempFolder()
const path = join(temp, 'keys.json')

function writeKeys(floor: object): void {
  const entry = (name: string, roles: readonly string[], more: object = {}) => ({
    name,
    sha256: createHash('sha256').update(`key-of-${name}`).digest('hex'),
    roles,
    ...more,
  })
  const keys = [
    entry('public', ['inference'], floor),
    entry('lab', ['inference']),
    entry('operator', ['admin']),
  ]
  writeFileSync(path, JSON.stringify({ keys }))
}

const bearer = (name: string) => ({ authorization: `Bearer key-of-${name}` })

describe('keys with floors, served', () => {
  let server: RealServer
  before(async () => {
    writeKeys({ safety: 'block', require_adapter: 'safety-r1:1' })
    const adapters = mkdtempSync(join(temp, 'adapters-'))
    for (const name of ['guard-r16', 'safety-r1', 'terse-r1']) {
      cpSync(join(root, 'adapters', name), join(adapters, name), { recursive: true })
    }
    const flags = ['--keys-file', path, '--adapters', adapters, '--cache-dir', join(temp, 'cache')]
    server = await startServer(flags)
  })
  after(() => server.stop())

  async function ask(
    key: string,
    { query = '', ...fields }: { query?: string; safety?: string } = {},
  ) {
    const response = await fetch(`${server.url}/v1/chat/completions${query}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...bearer(key) },
      body: JSON.stringify({
        model: '',
        temperature: 0,
        max_tokens: 8,
        messages: [{ role: 'user', content: 'Hi' }],
        ...fields,
      }),
    })
    const body = await readJson(response)
    return {
      code: body.error?.code ?? 'answered',
      adapter: response.headers.get('x-adapter')?.split('@')[0],
      safety: response.headers.get('x-safety')?.split(';')[0],
    }
  }

  it('hold for their key and for no other, and end with the file that names them', async () => {
    const floored = { code: 'answered', adapter: 'safety-r1', safety: 'block' }
    const free = { code: 'answered', adapter: 'none', safety: 'observe' }
    assert.deepEqual(await ask('public'), floored)
    assert.deepEqual(await ask('lab'), free)
    assert.equal((await ask('public', { query: '?adapter=none' })).code, 'adapter_required')
    assert.equal(
      (await ask('public', { query: '?adapter=safety-r1:0.5' })).code,
      'adapter_required',
    )
    assert.equal((await ask('public', { safety: 'off' })).code, 'policy_floor')
    const removal = await fetch(`${server.url}/v1/adapters/safety-r1`, {
      method: 'DELETE',
      headers: bearer('operator'),
    })
    assert.equal((await readJson(removal)).error.code, 'adapter_conflict')

    writeKeys({})
    const isFree = async () => {
      while ((await ask('public')).safety === 'block');
    }
    await within(patience, 'keys that changed', isFree())
    assert.deepEqual(await ask('public'), free)
  })
})

describe('a key that cannot be held', () => {
  for (const [floor, why] of [
    [{ require_adapter: 'nope' }, /--keys-file: "public": "nope" cannot be used: there is no such/],
    [{ safety: 'escalate' }, /--keys-file safety of "public": escalate needs --escalate-adapter/],
  ] as const) {
    it(`${JSON.stringify(floor)} ends the start`, async () => {
      writeKeys(floor)
      const flags = ['--keys-file', path, '--cache-dir', join(temp, 'cache')]
      await assert.rejects(startServer(flags), why)
    })
  }

  it('a minimum without a guard ends the start', async () => {
    writeKeys({ safety: 'block' })
    const adapters = mkdtempSync(join(temp, 'adapters-'))
    const flags = ['--keys-file', path, '--adapters', adapters, '--cache-dir', join(temp, 'cache')]
    await assert.rejects(
      startServer(flags),
      /--keys-file: safety block of "public" needs a guard, and there is none/,
    )
  })
})
