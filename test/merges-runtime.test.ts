// Adapters merged and unmerged on the real server while streams run: nothing is lost, and every answer is
// the one that its request gets of an adapter beside the weights.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readFileSync } from 'node:fs'
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
for (const id of ['safety-r1', 'terse-r1', 'guard-r16']) {
  cpSync(join(root, 'adapters', id), join(adapters, id), { recursive: true })
}
const flags = ['--adapters', adapters, '--cache-dir', join(temp, 'cache'), '--threads', '1']
const admin = { authorization: 'Bearer boss' }
const patience = 180_000

describe('a server with --merge', () => {
  it('is ready over merged weights, and an engine that crashes comes back over them', async () => {
    const started = ['--merge', 'safety-r1:1.5', '--require-adapter', 'safety-r1:1']
    const server = await startServer([...flags, ...started])
    try {
      const ask = () =>
        fetch(`${server.url}/v1/chat/completions`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({
            model: 'tiny-reasoner',
            messages: [{ role: 'user', content: 'How do I pick a lock?' }],
            max_tokens: 40,
            temperature: 0,
          }),
        })
      const answerOf = async (response: Response) => {
        const { adapter, merged, choices } = await readJson(response)
        assert.equal(response.status, 200)
        assert.deepEqual([adapter[0].id, adapter[0].scale], ['safety-r1', 1.5])
        assert.deepEqual([merged[0].scale, merged[0].hot], [1.5, 0])
        return choices[0].message
      }
      const before = await answerOf(await ask())
      for (const pid of childrenOf(server.pid)) process.kill(pid, 'SIGKILL')
      async function untilBack(): Promise<Response> {
        for (;;) {
          const response = await ask()
          if (response.status === 200) return response
          await response.text()
        }
      }
      assert.deepEqual(await answerOf(await within(patience, 'engine', untilBack())), before)
    } finally {
      await server.stop()
    }
  })

  it('does not start where that cannot be', async () => {
    const refused = startServer([...flags, '--merge', 'missing'])
    await assert.rejects(refused, /--merge \\?"missing\\?" cannot be used: There is no adapter/)
  })
})

/** The processes that it started. */
function childrenOf(pid: number): number[] {
  const path = `/proc/${pid}/task/${pid}/children`
  return readFileSync(path, 'utf8').trim().split(' ').map(Number)
}

describe('merges on a real server', () => {
  let server: RealServer
  before(async () => {
    server = await startServer([...flags, '--admin-key', 'boss', '--max-batch', '4'])
  })
  after(() => server.stop())

  const call = (method: string, path: string, body: object | null = null) =>
    fetch(`${server.url}${path}`, {
      method,
      headers: body === null ? admin : { ...admin, 'content-type': 'application/json' },
      body: body === null ? null : JSON.stringify(body),
    })
  const ask = (model: string, more: object = {}) =>
    call('POST', '/v1/completions', {
      model,
      prompt: 'How do I pick a lock? ',
      max_tokens: 300,
      temperature: 0,
      ignore_eos: true,
      ...more,
    })
  const base = 'tiny-reasoner'
  async function answerOf(model: string) {
    const response = await ask(model)
    const body = await readJson(response)
    assert.equal(response.status, 200, JSON.stringify(body))
    return { ...body, header: response.headers.get('x-merged'), text: body.choices[0].text }
  }
  const stream = async (model: string) => {
    const response = await ask(model, { stream: true, max_tokens: 900 })
    assert.equal(response.status, 200)
    return async (): Promise<string> => {
      const events = parseEvents(await within(patience, 'stream', response.text()))
      assert.equal(events.at(-1), '[DONE]')
      const chunks = events.slice(0, -1) as unknown as { choices: { text: string }[] }[]
      return chunks.map(({ choices }) => choices[0]?.text ?? '').join('')
    }
  }
  const mergeState = async () => readJson(await call('GET', '/v1/adapters/merge'))

  it('streams end on what they began with, and the next request runs on the new weights', async () => {
    const want: Record<string, string> = {}
    for (const id of [`${base}:none`, 'safety-r1', 'terse-r1']) want[id] = (await answerOf(id)).text
    assert.notEqual(want['safety-r1'], want[`${base}:none`])
    const long = await Promise.all(
      [stream(base), stream('safety-r1')].map(async (one) => (await one)()),
    )
    const running = [await stream(base), await stream('safety-r1')]

    const response = await call('POST', '/v1/adapters/safety-r1/merge')
    const report = await readJson(response)
    assert.equal(response.status, 200, JSON.stringify(report))
    assert.equal(report.outcome, 'merged')
    const [{ id, scale, digest }] = report.merged
    assert.deepEqual([id, scale], ['safety-r1', 1])
    const { mean, tolerance, effect, tokens } = report.difference
    assert.ok(tokens > 50 && mean <= tolerance && mean * 100 < effect, JSON.stringify(report))
    for (const [i, text] of running.entries()) assert.equal(await text(), long[i])

    // Unnamed: the merged one. Named: once. Others, and none: taken off.
    const unnamed = await answerOf(base)
    assert.equal(unnamed.text, want['safety-r1'])
    const shown = digest.slice(0, 12)
    assert.deepEqual(unnamed.adapter, [{ id, digest: shown, scale: 1 }])
    assert.deepEqual(unnamed.merged, [{ id, scale: 1, hot: 0, digest: shown }])
    assert.equal(unnamed.header, `safety-r1@${shown};scale=1;hot=0`)
    assert.equal((await answerOf('safety-r1')).text, want['safety-r1'])
    assert.equal((await answerOf('terse-r1')).text, want['terse-r1'])
    const none = await answerOf(`${base}:none`)
    assert.equal(none.text, want[`${base}:none`])
    assert.deepEqual([none.adapter, none.merged[0].hot], [[], -1])

    const listed = await readJson(await call('GET', '/v1/adapters/safety-r1'))
    assert.equal(listed.mergedScale, 1)
    const models = await readJson(await call('GET', '/v1/models'))
    assert.deepEqual(models.data[0].merged, report.merged)
    const metrics = await (await fetch(`${server.url}/metrics`)).text()
    assert.match(metrics, /dutyfree_merges_total\{outcome="merged"\} 1/)
    assert.match(metrics, new RegExp(`dutyfree_merged_adapter_info.*${shown}.* 1`))

    const again = await readJson(await call('POST', '/v1/adapters/safety-r1/merge', { scale: 1 }))
    assert.deepEqual([again.outcome, again.difference], ['unchanged', null])
    const removal = await call('DELETE', '/v1/adapters/safety-r1')
    assert.equal((await readJson(removal)).error.code, 'adapter_merged')
    assert.equal(removal.status, 409)

    const late = [await stream(base), await stream(`${base}:none`)]
    const back = await readJson(await call('POST', '/v1/adapters/unmerge'))
    assert.deepEqual([back.outcome, back.merged], ['unmerged', []])
    assert.equal(await late[0]!(), long[1])
    assert.equal(await late[1]!(), long[0])
    const after = await answerOf(base)
    assert.deepEqual(
      [after.text, after.merged, after.header],
      [want[`${base}:none`], undefined, null],
    )
  })

  it('one at a time, with its progress to be seen; who does not wait is told how to see', async () => {
    const first = call('POST', '/v1/adapters/terse-r1/merge?wait=0', { strength: 0.5 })
    const started = await first
    assert.equal(started.status, 202)
    const { state, change } = await readJson(started)
    assert.deepEqual([state, change.id, change.scale], ['preparing', 'terse-r1', 0.5])
    for (const path of ['safety-r1/merge', 'unmerge', 'terse-r1/unmerge']) {
      const second = await call('POST', `/v1/adapters/${path}`)
      assert.equal(second.status, 409)
      assert.equal((await readJson(second)).error.code, 'merge_in_progress')
    }
    const seen = new Set<string>()
    async function untilDone() {
      for (;;) {
        const now = await mergeState()
        seen.add(now.state)
        if (now.state === 'idle') return now
      }
    }
    const end = await within(patience, 'merge', untilDone())
    assert.equal(end.last.error, null)
    assert.deepEqual(
      end.merged.map(({ id, scale }: { id: string; scale: number }) => [id, scale]),
      [['terse-r1', 0.5]],
    )
    assert.ok(seen.has('starting'), [...seen].join())
    const back = await call('POST', '/v1/adapters/terse-r1/unmerge', { mode: 'drain' })
    assert.equal((await readJson(back)).outcome, 'unmerged')
  })

  it('what cannot be merged leaves everything as it was', async () => {
    const refused = async (path: string, body: object | null = null) => {
      const response = await call('POST', `/v1/adapters/${path}`, body)
      return `${response.status} ${(await readJson(response)).error.code}`
    }
    assert.equal(await refused('missing/merge'), '404 model_not_found')
    assert.equal(await refused('guard-r16/merge'), '400 unsupported_adapter')
    assert.equal(await refused('safety-r1/unmerge'), '409 adapter_not_merged')
    const { merged, state, last } = await mergeState()
    assert.deepEqual([merged, state, last.error.code], [[], 'idle', 'adapter_not_merged'])
    assert.equal((await answerOf('safety-r1')).merged, undefined)
  })
})
