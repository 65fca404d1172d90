// An adapter that an operator has fetched from a hub: what comes, from where, and what never does. The hub is
// on loopback.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { incomingFolder } from '../server/contracts/adapter.ts'
import { createAdapterFetcher } from '../server/hub/adapter.ts'
import type { HubSettings } from '../server/hub/settings.ts'
import { within } from './support/deadline.ts'
import { createFakeEngine } from './support/fake-engine.ts'
import { createFront, readJson, until } from './support/front.ts'
import { startHub, type TestHub } from './support/hub.ts'
import { createTempFolder } from './support/temp-folder.ts'

const patience = 10_000
const temp = createTempFolder()
const repo = 'org/adapter'
const files = {
  'adapter_config.json': '{"r": 1}',
  'adapter_model.safetensors': 'tensors',
  'manifest.json': '{}',
  'adapter_model.bin': 'a pickle',
  'training_args.bin': 'another',
  'README.md': '# card',
}
const wanted = ['adapter_config.json', 'adapter_model.safetensors', 'manifest.json']
const logger = { debug() {}, info() {}, warn() {}, error() {} }

let hub: TestHub
let commit: string
beforeEach(async () => {
  hub = await startHub({ repo })
  commit = hub.commit(files)
})
afterEach(() => hub.close())

function fetcherOf(more: Partial<HubSettings> = {}) {
  const settings = {
    endpoint: hub.url,
    token: null,
    cacheDir: join(temp, 'no-cache'),
    isOffline: false,
    ...more,
  }
  return createAdapterFetcher({ settings, logger, wait: async () => {} })
}

async function fetchTo(
  folder: string,
  more: object = {},
  settings: Partial<HubSettings> = {},
): Promise<{ commit: string }> {
  const signal = AbortSignal.timeout(patience)
  const asked = { repo, revision: null, folder, maxBytes: 10_000, signal, ...more }
  return fetcherOf(settings)(asked)
}

const newFolder = () => mkdtempSync(join(temp, 'folder-'))

describe('fetching an adapter', () => {
  it('brings the files of PEFT and the manifest, at one commit, and nothing else', async () => {
    const folder = newFolder()
    assert.deepEqual(await fetchTo(folder), { commit })
    assert.deepEqual(readdirSync(folder).sort(), wanted)
    for (const name of wanted) {
      assert.equal(readFileSync(join(folder, name), 'utf8'), files[name as keyof typeof files])
    }
    const asked = hub.requests.map(({ path }) => path).join(' ')
    assert.doesNotMatch(asked, /\.bin|README/)
    assert.ok(!existsSync(join(temp, 'no-cache')))
  })

  it('does without a manifest, and takes the revision that was asked for', async () => {
    const { 'manifest.json': _, ...bare } = files
    const old = hub.commit({ ...bare, 'adapter_config.json': '{"r": 2}' }, 'v1')
    const folder = newFolder()
    assert.deepEqual(await fetchTo(folder, { revision: 'v1' }), { commit: old })
    assert.equal(readFileSync(join(folder, 'adapter_config.json'), 'utf8'), '{"r": 2}')
    assert.deepEqual(await fetchTo(newFolder(), { revision: old }), { commit: old })
  })

  it('goes on where a connection broke', async () => {
    hub.fail('adapter_model.safetensors', { kind: 'drop', after: 3 })
    const folder = newFolder()
    await fetchTo(folder)
    assert.equal(readFileSync(join(folder, 'adapter_model.safetensors'), 'utf8'), 'tensors')
    assert.deepEqual(hub.ranges('adapter_model.safetensors'), ['bytes=0-', 'bytes=3-'])
  })

  const wrongBytes = { kind: 'wrongBytes' } as const
  for (const [what, arrange, more, settings, code] of [
    ['another repository', null, { repo: 'org/none' }, {}, 'hub_not_found'],
    ['another revision', null, { revision: 'v9' }, {}, 'hub_not_found'],
    ['a hub that is offline by its variable', null, {}, { isOffline: true }, 'hub_unavailable'],
    ['a hub that nobody runs', null, {}, { endpoint: 'http://127.0.0.1:9' }, 'hub_unavailable'],
    ['more than --max-upload', null, { maxBytes: 10 }, {}, 'request_too_large'],
    ['wrong bytes, twice', 'adapter_config.json', {}, {}, 'download_failed'],
  ] as const) {
    it(`${what} is ${code}, in a line that names the repository or the file`, async () => {
      if (arrange !== null) hub.fail(arrange, wrongBytes, wrongBytes)
      const folder = newFolder()
      await assert.rejects(fetchTo(folder, more, settings), (error: Error & { code?: string }) => {
        assert.equal(error.code, code, error.message)
        assert.match(error.message, /org\/(adapter|none)|adapter_config\.json/)
        assert.doesNotMatch(error.message, /--model|\n/)
        return true
      })
      if (code === 'hub_unavailable') assert.deepEqual(hub.requests, [])
    })
  }

  it('a gated repository is hub_access_denied, and the token goes to the hub alone', async () => {
    const gated = await startHub({ repo, token: 'hf_secret' })
    try {
      gated.commit(files)
      const denied = fetchTo(newFolder(), {}, { endpoint: gated.url, token: 'hf_other' })
      await assert.rejects(denied, { code: 'hub_access_denied' })
      await fetchTo(newFolder(), {}, { endpoint: gated.url, token: 'hf_secret' })
      const atCdn = gated.requests.filter(({ host }) => host === 'cdn')
      assert.ok(atCdn.length > 0)
      for (const { authorization } of atCdn) assert.equal(authorization, undefined)
    } finally {
      await gated.close()
    }
  })

  for (const missing of ['adapter_config.json', 'adapter_model.safetensors'] as const) {
    it(`a repository without ${missing} is invalid_adapter, and nothing of it comes`, async () => {
      const { [missing]: _, ...others } = files
      hub.commit(others)
      const folder = newFolder()
      const message = new RegExp(`has no ${missing.replace('.', '\\.')}`)
      await assert.rejects(fetchTo(folder), { code: 'invalid_adapter', message })
      assert.deepEqual(readdirSync(folder), [])
    })
  }

  for (const id of [
    'http://127.0.0.1:1/org/adapter',
    '//127.0.0.1/adapter',
    '../adapter',
    'org/../adapter',
    'org',
    'org/adapter/tree/main',
    'org/adapter@main',
    'org/adapter:Q4_K_M',
    'org/adapter?x=1',
    'org/a\nb',
    '',
  ]) {
    it(`the id ${JSON.stringify(id)} is refused, and nobody is asked`, async () => {
      await assert.rejects(fetchTo(newFolder(), { repo: id }), {
        code: 'invalid_value',
        param: 'hub',
      })
      assert.deepEqual(hub.requests, [])
    })
  }

  it('a revision that leads elsewhere is refused', async () => {
    for (const revision of ['../x', 'a@b', 'a:b', '', '/etc']) {
      await assert.rejects(fetchTo(newFolder(), { revision }), { code: 'invalid_value' })
    }
    assert.deepEqual(hub.requests, [])
  })
})

describe('POST /v1/adapters with hub', () => {
  function createWorld({ isAllowed = true, requestTimeout = 60_000 } = {}) {
    const root = newFolder()
    mkdirSync(root, { recursive: true })
    const seen: string[][] = []
    const engine = createFakeEngine()
    const { changeAdapter } = engine
    engine.changeAdapter = async (change) => {
      if (change.kind === 'install') {
        seen.push(readdirSync(join(root, incomingFolder, change.staged)).sort())
      }
      return changeAdapter(change)
    }
    const front = createFront({
      engine,
      config: { adminKey: 'boss', adapters: root, maxUpload: 10_000, requestTimeout },
      fetchAdapter: isAllowed ? fetcherOf() : null,
    })
    const incoming = join(root, incomingFolder)
    return {
      front,
      seen,
      leftovers: () => (existsSync(incoming) ? readdirSync(incoming) : []),
      add: (body: object, init: RequestInit = {}) =>
        front.post('/v1/adapters', body, { ...init, headers: { authorization: 'Bearer boss' } }),
    }
  }

  it('installs what came, says the commit, and leaves nothing behind', async () => {
    const { add, seen, leftovers, front } = createWorld()
    const digest = 'a'.repeat(64)
    const response = await add({ name: 'new-one', hub: repo, digest, pinned: true })
    assert.equal(response.status, 201)
    const { id, change } = await readJson(response)
    assert.deepEqual([id, change], ['new-one', { outcome: 'added', runningRequests: 0, commit }])
    assert.deepEqual(seen, [wanted])
    const [first] = front.engine.changes
    const { staged: _, ...install } = first as { staged?: string }
    const conditions = { replace: false, digest, pinned: true }
    assert.deepEqual(install, { kind: 'install', id: 'new-one', ...conditions })
    assert.deepEqual(leftovers(), [])
    const series = 'dutyfree_adapter_changes_total{kind="hub",outcome="added"}'
    assert.equal(await front.metric(series), 1)
  })

  it('is refused without --hub-adapters, and nobody is asked', async () => {
    const { add, front } = createWorld({ isAllowed: false })
    const response = await add({ name: 'new-one', hub: repo })
    assert.equal(response.status, 400)
    const { error } = await readJson(response)
    assert.deepEqual([error.code, error.param], ['unsupported_value', 'hub'])
    assert.match(error.message, /--hub-adapters/)
    assert.deepEqual([hub.requests, front.engine.changes], [[], []])
  })

  it('fields that contradict one another are refused', async () => {
    const { add } = createWorld()
    for (const [body, param] of [
      [{ name: 'x', hub: repo, folder: 'y' }, 'hub'],
      [{ name: 'x', revision: 'main' }, 'revision'],
      [{ name: 'x', hub: 3 }, 'hub'],
      [{ hub: repo }, 'name'],
      [{ name: 'x', hub: `${hub.url}/${repo}` }, 'hub'],
    ] as const) {
      const response = await add(body)
      assert.equal(response.status, 400)
      assert.equal((await readJson(response)).error.param, param, JSON.stringify(body))
    }
    assert.deepEqual(hub.requests, [])
  })

  it('a hub that fails has its own status, and nothing is left', async () => {
    const { add, leftovers, front } = createWorld()
    for (const [body, status, code] of [
      [{ hub: 'org/none' }, 404, 'hub_not_found'],
      [{ hub: repo, revision: 'v9' }, 404, 'hub_not_found'],
    ] as const) {
      const response = await add({ name: 'x', ...body })
      assert.deepEqual([response.status, (await readJson(response)).error.code], [status, code])
    }
    assert.deepEqual([leftovers(), front.engine.changes], [[], []])
  })

  it('ends when the client leaves, and when it takes longer than a request may', async () => {
    const { add, leftovers, front } = createWorld()
    const stall = { kind: 'stall' } as const
    hub.fail('adapter_model.safetensors', stall)
    const leaving = new AbortController()
    const gone = add({ name: 'x', hub: repo }, { signal: leaving.signal })
    await until(
      patience,
      'half an adapter',
      () => leftovers().length > 0 && hub.requests.length > 4,
    )
    leaving.abort()
    assert.equal((await within(patience, 'end', gone)).status, 499)
    assert.deepEqual([leftovers(), front.engine.changes], [[], []])

    const slow = createWorld({ requestTimeout: 200 })
    hub.fail('adapter_model.safetensors', stall)
    const late = await within(patience, 'deadline', slow.add({ name: 'x', hub: repo }))
    assert.equal((await readJson(late)).error.code, 'timeout')
    assert.deepEqual([slow.leftovers(), slow.front.engine.changes], [[], []])
  })
})
