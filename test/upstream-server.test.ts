// The whole server over a fake vLLM, as users start it: flags, process, HTTP, and what an answer attests.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { within } from './support/deadline.ts'
import { type FakeVllm, fakeEnd, startFakeVllm } from './support/fake-vllm.ts'
import { type RealServer, startServer } from './support/real-server.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { patience, writeDescription, writeUpAdapter } from './support/upstream-world.ts'

const dir = createTempFolder()
const tokenizer = loadTokenizer(writeDescription(join(dir, 'model')))
writeUpAdapter(join(dir, 'adapters'), 'safe', 1)
const reply = 'fine'

describe('a server over vLLM', () => {
  let fake: FakeVllm
  let server: RealServer

  before(async () => {
    fake = await startFakeVllm({
      encode: (text) => tokenizer.encode(text),
      next: (_, said) => Buffer.from(reply)[said.length] ?? fakeEnd,
    })
    const folders = ['model', 'adapters', 'cache'].map((name) => join(dir, name))
    server = await startServer([
      ...['--engine', 'vllm', '--upstream', fake.url, '--max-adapter-rank', '8'],
      ...['--upstream-adapters', join(dir, 'shared'), '--model', folders[0]!],
      ...['--adapters', folders[1]!, '--cache-dir', folders[2]!, '--served-model-name', 'ours'],
    ])
  })
  after(async () => {
    assert.equal(await server?.stop(), 0)
    await fake?.close()
  })

  const post = (fields: object, query = '') =>
    fetch(`${server.url}/v1/completions${query}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'ours', prompt: 'how', max_tokens: 8, ...fields }),
    })

  it('answers, and says that the adapter was arranged', async () => {
    const response = await post({}, '?adapter=safe:0.5')
    const body = (await response.json()) as {
      choices: { text: string; finish_reason: string }[]
      adapter: { id: string; scale: number; attested?: string }[]
    }
    assert.equal(response.status, 200, JSON.stringify(body))
    assert.deepEqual([body.choices[0]!.text, body.choices[0]!.finish_reason], [reply, 'stop'])
    assert.deepEqual(
      body.adapter.map(({ id, scale, attested }) => [id, scale, attested]),
      [['safe', 0.5, 'arranged']],
    )
    assert.match(
      response.headers.get('x-adapter')!,
      /^safe@[0-9a-f]{12};scale=0.5;attested=arranged$/,
    )
    assert.match(String(fake.completions().at(-1)!.body.model), /@0.5$/)
  })

  it('streams', async () => {
    const text = await (await post({ stream: true })).text()
    const events = text.split('\n\n').filter((line) => line !== '')
    assert.equal(events.at(-1), 'data: [DONE]')
    const said = events
      .slice(0, -1)
      .map((line) => JSON.parse(line.slice(6)).choices[0]?.text ?? '')
      .join('')
    assert.equal(said, reply)
  })

  it('lists what it can do', async () => {
    const list = (await (await fetch(`${server.url}/v1/models`)).json()) as {
      data: { id: string; capabilities: object }[]
    }
    assert.deepEqual(
      list.data.map(({ id }) => id),
      ['ours', 'safe'],
    )
    assert.deepEqual(list.data[0]!.capabilities, {
      attestation: 'arranged',
      adapter_spans: false,
      verdicts: null,
      probe: false,
      structured_outputs: 'without_thought',
    })
  })

  it('is not ready while no upstream is, says so, and comes back', async () => {
    const health = async (path: string) => {
      const response = await fetch(`${server.url}${path}`)
      const body = (await response.json()) as { error?: { code: string; message: string } }
      return { status: response.status, error: body.error }
    }
    const until = (what: string, isTrue: () => Promise<boolean>) =>
      within(
        patience,
        what,
        (async () => {
          while (!(await isTrue())) await sleep(50)
        })(),
      )
    assert.equal((await health('/health/ready')).status, 200)
    fake.state.isDead = true
    await until('503', async () => (await health('/health/ready')).status === 503)
    for (const path of ['/health/ready', '/health']) {
      const { status, error } = await health(path)
      assert.deepEqual([status, error?.code], [503, 'upstream_unavailable'])
      assert.match(error!.message, /No upstream takes requests now, of 1/)
    }
    assert.equal((await fetch(`${server.url}/ping`)).status, 503)
    assert.equal((await health('/health/live')).status, 200)
    assert.equal((await post({})).status, 503)
    fake.restart()
    await until('200', async () => (await health('/health/ready')).status === 200)
    assert.equal((await post({}, '?adapter=safe:0.5')).status, 200)
  })

  it('says when to come again where an upstream is full', async () => {
    fake.state.answer = ({ path }) =>
      path === '/v1/completions' ? { status: 429, body: {} } : undefined
    const response = await post({})
    fake.state.answer = undefined
    assert.equal(response.status, 429)
    assert.equal(response.headers.get('retry-after'), '1')
  })

  it('refuses what it cannot do with a 400', async () => {
    const response = await post({ adapter: [{ id: 'safe', from: 'answer' }] })
    assert.equal(response.status, 400)
    const { error } = (await response.json()) as { error: { code: string; message: string } }
    assert.equal(error.code, 'unsupported_parameter')
    assert.match(error.message, /adapter\.from/)
  })
})
