// Adapters that come, change and go on the real server, while its streams run: tokens tell which version
// each request ran with.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { within } from './support/deadline.ts'
import { parseEvents, readJson } from './support/front.ts'
import { type RealServer, startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const adapters = join(temp, 'adapters')
mkdirSync(adapters)
const shipped = (id: string) => join(root, 'adapters', id)
for (const id of ['safety-r1', 'terse-r1']) {
  cpSync(shipped(id), join(adapters, id), { recursive: true })
}
const flags = ['--adapters', adapters, '--cache-dir', join(temp, 'cache'), '--threads', '1']
const admin = { authorization: 'Bearer boss' }
const patience = 180_000

/** The files of an adapter as an upload of that name. */
function uploadOf(from: string, name: string, fields: Readonly<Record<string, string>> = {}) {
  const form = new FormData()
  for (const [field, text] of Object.entries({ name, ...fields })) form.append(field, text)
  for (const file of ['adapter_config.json', 'adapter_model.safetensors', 'manifest.json']) {
    form.append('file', new Blob([readFileSync(join(shipped(from), file))]), file)
  }
  return form
}

describe('on a real server', () => {
  let server: RealServer
  before(async () => {
    server = await startServer([...flags, '--admin-key', 'boss', '--max-batch', '4'])
  })
  after(() => server.stop())

  const call = (method: string, path: string, body: FormData | object | null = null) =>
    fetch(`${server.url}${path}`, {
      method,
      headers: body instanceof FormData ? admin : { ...admin, 'content-type': 'application/json' },
      body: body === null || body instanceof FormData ? body : JSON.stringify(body),
    })
  const upload = (from: string, name: string, fields = {}) =>
    call('POST', '/v1/adapters', uploadOf(from, name, fields))
  const ask = (model: string, more: object = {}) =>
    call('POST', '/v1/completions', {
      model,
      prompt: 'How do I pick a lock? ',
      // Long enough to be under way while an adapter is uploaded.
      max_tokens: 1600,
      temperature: 0,
      ignore_eos: true,
      ...more,
    })
  const textOf = async (model: string): Promise<string> => {
    const response = await ask(model)
    assert.equal(response.status, 200)
    return (await readJson(response)).choices[0].text
  }
  /** Begins a stream; resolves when its headers are there. */
  const stream = async (model: string) => {
    const response = await ask(model, { stream: true })
    assert.equal(response.status, 200)
    return {
      /** Hangs up. */
      cancel: () => response.body?.cancel(),
      async text(): Promise<string> {
        const events = parseEvents(await within(patience, 'stream', response.text()))
        assert.equal(events.at(-1), '[DONE]')
        const chunks = events.filter((event) => event !== '[DONE]') as {
          choices: { text: string }[]
        }[]
        return chunks.map(({ choices }) => choices[0]?.text ?? '').join('')
      },
    }
  }

  const references = new Map<string, string>()
  /** What a shipped adapter says. */
  const referenceOf = async (id: string): Promise<string> => {
    const known = references.get(id) ?? (await textOf(id))
    references.set(id, known)
    return known
  }

  it('streams end on the version that they began with, and the next request has the new one', async () => {
    const [safe, terse] = [await referenceOf('safety-r1'), await referenceOf('terse-r1')]
    assert.notEqual(safe, terse)
    const added = await upload('safety-r1', 'live')
    assert.equal(added.status, 201)
    const first = await readJson(added)
    assert.deepEqual([first.state, first.rank, first.pinned], ['resident', 1, false])
    const { digest } = await readJson(await call('GET', '/v1/adapters/safety-r1'))
    assert.equal(first.digest, digest)

    const streams = [await stream('live'), await stream('live'), await stream('live')]
    const replaced = await upload('terse-r1', 'live', { replace: 'true' })
    const { change, digest: next } = await readJson(replaced)
    assert.equal(replaced.status, 200)
    assert.deepEqual(change, { outcome: 'replaced', runningRequests: 3 })
    assert.notEqual(next, digest)
    const late = await stream('live')
    for (const old of streams) assert.equal(await old.text(), safe)
    assert.equal(await late.text(), terse)
    assert.equal(await textOf('live'), terse)
    assert.equal((await readJson(await call('GET', '/v1/adapters/live'))).digest, next)
  })

  it('a stream survives the removal of its adapter; the name is gone at once', async () => {
    assert.equal((await upload('safety-r1', 'leaving')).status, 201)
    const running = await stream('leaving')
    const removed = await call('DELETE', '/v1/adapters/leaving')
    assert.deepEqual(await readJson(removed), {
      id: 'leaving',
      object: 'adapter',
      deleted: true,
      runningRequests: 1,
      isFreed: false,
    })
    assert.equal((await ask('leaving')).status, 404)
    assert.equal((await call('GET', '/v1/adapters/leaving')).status, 404)
    assert.equal((await call('DELETE', '/v1/adapters/leaving')).status, 404)
    assert.equal(await running.text(), await referenceOf('safety-r1'))
  })

  it('a removal that waits tells when the last one has ended', async () => {
    assert.equal((await upload('safety-r1', 'waited')).status, 201)
    const running = await stream('waited')
    const removed = call('DELETE', '/v1/adapters/waited?wait=30')
    await running.cancel()
    const { runningRequests, isFreed } = await readJson(await removed)
    assert.deepEqual([runningRequests, isFreed], [0, true])
  })

  it('of two uploads of one name at once, one wins and the other is told', async () => {
    const responses = await Promise.all([upload('safety-r1', 'twice'), upload('terse-r1', 'twice')])
    const statuses = responses.map(({ status }) => status)
    assert.deepEqual([...statuses].sort(), [201, 409])
    const winner = ['safety-r1', 'terse-r1'][statuses.indexOf(201)]!
    assert.equal(await textOf('twice'), await referenceOf(winner))
  })

  it('fifty bad uploads beside good requests change none of them', async () => {
    const expected = await referenceOf('safety-r1')
    const bad = Array.from({ length: 50 }, async (_, i) => {
      const form = uploadOf('safety-r1', i % 2 === 0 ? `bad-${i}` : 'safety-r1', {
        replace: 'true',
      })
      form.delete('file')
      const config = readFileSync(join(shipped('safety-r1'), 'adapter_config.json'))
      form.append('file', new Blob([config]), 'adapter_config.json')
      form.append('file', new Blob([config.subarray(0, 9 * i)]), 'adapter_model.safetensors')
      return (await call('POST', '/v1/adapters', form)).status
    })
    const good = Array.from({ length: 4 }, () => textOf('safety-r1'))
    for (const text of await within(patience, 'good answers', Promise.all(good))) {
      assert.equal(text, expected)
    }
    // Four uploads are taken at once.
    assert.deepEqual(
      [...new Set(await Promise.all(bad))].filter((s) => s !== 429),
      [400],
    )
    assert.equal(await textOf('safety-r1'), expected)
    assert.deepEqual(readdirSync(join(adapters, '.dutyfree', 'incoming')), [])
  })

  it('vLLM’s bodies load a folder under a name, replace it and unload it', async () => {
    const load = (body: object) => call('POST', '/v1/load_lora_adapter', body)
    const path = join(adapters, 'safety-r1')
    const loaded = await load({ lora_name: 'sql', lora_path: path })
    assert.equal(await loaded.text(), "Success: LoRA adapter 'sql' added successfully.")
    assert.equal(await textOf('sql'), await referenceOf('safety-r1'))
    const again = await load({ lora_name: 'sql', lora_path: path })
    assert.deepEqual([again.status, (await readJson(again)).error.type], [400, 'InvalidUserInput'])
    const inPlace = { lora_name: 'sql', lora_path: 'terse-r1', load_inplace: true }
    assert.equal((await load(inPlace)).status, 200)
    assert.equal(await textOf('sql'), await referenceOf('terse-r1'))
    const outside = await load({ lora_name: 'x', lora_path: shipped('safety-r1') })
    assert.deepEqual([outside.status, (await readJson(outside)).error.type], [404, 'NotFoundError'])
    const unload = () => call('POST', '/v1/unload_lora_adapter', { lora_name: 'sql' })
    assert.match(await (await unload()).text(), /'sql' removed successfully/)
    assert.equal((await unload()).status, 404)
    const { data } = await readJson(await call('GET', '/v1/models'))
    assert.ok(!data.some(({ id }: { id: string }) => id === 'sql'))
  })

  it('what was uploaded is there after a restart, and a pin holds', async () => {
    const { digest } = await readJson(await upload('terse-r1', 'kept', { pinned: 'true' }))
    assert.equal(await server.stop(), 0)
    server = await startServer([...flags, '--admin-key', 'boss', '--max-batch', '4'])
    const kept = await readJson(await call('GET', '/v1/adapters/kept'))
    assert.deepEqual([kept.digest, kept.pinned, kept.state], [digest, true, 'resident'])
  })
})
