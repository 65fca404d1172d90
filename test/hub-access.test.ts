// Who asks a hub and where: ids, Hugging Face's variables, refusals, and that a token goes nowhere else.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { ServerError } from '../server/errors.ts'
import { parseHubId } from '../server/hub/hub-id.ts'
import { readHubSettings } from '../server/hub/settings.ts'
import { startHub } from './support/hub.ts'
import { fetchFrom, smallRepo } from './support/hub-fetch.ts'
import { createTempFolder } from './support/temp-folder.ts'

const token = 'hf_verysecrettoken'

describe('a hub’s token', () => {
  it('goes to the hub, and not to the host that it redirects to', async () => {
    const hub = await startHub({ token })
    try {
      hub.commit(smallRepo)
      const { folder, log } = await fetchFrom({ url: hub.url, token })
      assert.ok(folder)
      for (const { host, authorization } of hub.requests) {
        assert.equal(authorization, host === 'hub' ? `Bearer ${token}` : undefined)
      }
      assert.ok(hub.requests.some(({ host }) => host === 'cdn'))
      assert.doesNotMatch(log.join('\n'), /verysecret|signature/)
    } finally {
      await hub.close()
    }
  })

  it('does not follow a listing to another host', async () => {
    const hub = await startHub({ token })
    const other = await startHub()
    try {
      hub.commit(smallRepo)
      const next = `<${other.url}/api/models/org/tiny/tree/next>; rel="next"`
      hub.fail('tree', { kind: 'body', body: Buffer.from('[]'), headers: { link: next } })
      await fetchFrom({ url: hub.url, token })
      assert.equal(other.requests.length, 1)
      assert.equal(other.requests[0]?.authorization, undefined)
    } finally {
      await hub.close()
      await other.close()
    }
  })

  it('need not begin with hf_: other hubs have other tokens', async () => {
    const hub = await startHub({ token: 'other-hub-token' })
    try {
      hub.commit(smallRepo)
      assert.ok((await fetchFrom({ url: hub.url, token: 'other-hub-token' })).folder)
    } finally {
      await hub.close()
    }
  })
})

describe('a refusal', () => {
  const refusals = [
    [401, undefined, 'hub_access_denied', /refuses access \(401\): it is gated or private, or/],
    [403, undefined, 'hub_access_denied', /refuses access \(403\).* set HF_TOKEN to a token/],
    [403, token, 'hub_access_denied', /the token in use may not read it/],
    [404, 'RepoNotFound', 'hub_not_found', /has no such model; give org\/name/],
    [404, 'RevisionNotFound', 'hub_not_found', /has no revision "main" of this model/],
    [404, undefined, 'hub_not_found', /has no such model, or no revision "main" of it/],
    [418, undefined, 'hub_unavailable', /answers with status 418/],
  ] as const
  for (const [status, detail, code, message] of refusals) {
    it(`${status} ${detail === token ? 'with a token' : (detail ?? '')} is one line, at once`, async () => {
      const hub = await startHub()
      try {
        hub.commit(smallRepo)
        const headers = { 'x-error-code': String(detail) }
        hub.fail('revision', { kind: 'status', status, headers })
        const asked = { url: hub.url, token: detail === token ? token : null }
        const { error, waits, log } = await fetchFrom(asked)
        assert.ok(error instanceof ServerError)
        assert.equal(error.code, code)
        assert.match(error.message, message)
        assert.doesNotMatch(error.message + log.join(), /\n|verysecret/)
        assert.deepEqual(waits, [])
      } finally {
        await hub.close()
      }
    })
  }

  it('is not hidden by what the cache holds', async () => {
    const hub = await startHub({ token })
    try {
      hub.commit(smallRepo)
      const { cacheDir } = await fetchFrom({ url: hub.url, token })
      const { error } = await fetchFrom({ url: hub.url, cacheDir })
      assert.equal((error as ServerError).code, 'hub_access_denied')
    } finally {
      await hub.close()
    }
  })
})

describe('a hub’s id', () => {
  it('is org/name, with a branch, a tag or a commit', () => {
    const sha = 'a'.repeat(40)
    assert.deepEqual(parseHubId('org/name'), { repo: 'org/name', revision: 'main', gguf: null })
    assert.deepEqual(parseHubId('Org-1/R1_1.5B'), {
      repo: 'Org-1/R1_1.5B',
      revision: 'main',
      gguf: null,
    })
    for (const revision of ['v1.0', 'refs/pr/12', 'feature/a-b', sha]) {
      assert.deepEqual(parseHubId(`org/name@${revision}`), {
        repo: 'org/name',
        revision,
        gguf: null,
      })
    }
  })

  const wrong = ['', 'name', 'a/b/c', '/a/b', './a', '../b', 'a/..', 'a/b..c', 'a/b--c', 'a/b.git']
  const wrongToo = ['a/.b', 'a/b-', 'a /b', 'a/b@', 'a/b@../x', 'a/b@x/../y', 'a/b@/x', 'a/b@x/']
  for (const text of [...wrong, ...wrongToo, 'a/b@x@y', 'a/b\n', 'a\\b/c', `a/${'b'.repeat(97)}`]) {
    it(`is not ${JSON.stringify(text)}`, () => assert.equal(parseHubId(text), null))
  }
})

describe('Hugging Face’s variables', () => {
  const home = createTempFolder()

  it('have Hugging Face’s defaults', () => {
    const settings = readHubSettings({ HF_TOKEN_PATH: join(home, 'none') })
    assert.match(settings.endpoint, /^https:\/\/[^/]+$/)
    assert.equal(settings.cacheDir, join(homedir(), '.cache/huggingface/hub'))
    assert.equal(settings.token, null)
    assert.equal(settings.isOffline, false)
  })

  it('name endpoint, cache and offline', () => {
    const settings = (env: Record<string, string>) => readHubSettings({ HF_HOME: home, ...env })
    assert.equal(
      settings({ HF_ENDPOINT: 'http://127.0.0.1:1/hf/' }).endpoint,
      'http://127.0.0.1:1/hf',
    )
    assert.equal(settings({}).cacheDir, join(home, 'hub'))
    assert.equal(settings({ HF_HUB_CACHE: '~/c' }).cacheDir, join(homedir(), 'c'))
    assert.equal(settings({ HF_HUB_CACHE: '' }).cacheDir, join(home, 'hub'))
    for (const yes of ['1', 'true', 'YES', 'on']) {
      assert.equal(settings({ HF_HUB_OFFLINE: yes }).isOffline, true)
    }
    assert.equal(settings({ HF_HUB_OFFLINE: '0' }).isOffline, false)
  })

  it('HF_TOKEN wins over the file that a login wrote', () => {
    mkdirSync(home, { recursive: true })
    writeFileSync(join(home, 'token'), 'hf_from_file\n')
    assert.equal(readHubSettings({ HF_HOME: home }).token, 'hf_from_file')
    assert.equal(readHubSettings({ HF_HOME: home, HF_TOKEN: ' hf_env ' }).token, 'hf_env')
  })

  const secret = 'user:pass'
  for (const endpoint of ['hub', 'ftp://hub', `https://${secret}@hub`, 'https://hub/?token=pass']) {
    it(`HF_ENDPOINT ${endpoint} is refused without being shown`, () => {
      assert.throws(
        () => readHubSettings({ HF_ENDPOINT: endpoint }),
        (error: Error) =>
          /^HF_ENDPOINT must be/.test(error.message) && !/pass@|=pass/.test(error.message),
      )
    })
  }

  it('a token that no header can carry is refused without being shown', () => {
    assert.throws(
      () => readHubSettings({ HF_TOKEN: 'hf_se\ncret' }),
      (error: Error) =>
        /^HF_TOKEN must hold one word/.test(error.message) && !/cret/.test(error.message),
    )
  })
})
