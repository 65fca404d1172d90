// A checkpoint from a hub: which files come, where they lie, which commit is served, and what is done
// without a hub.

import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join, relative } from 'node:path'
import { describe, it } from 'node:test'
import { ServerError } from '../server/errors.ts'
import { gitDigest, type RepoContent, sha256, startHub, type TestHub } from './support/hub.ts'
import {
  fetchFrom,
  newCacheDir,
  randomBytes,
  shardedRepo,
  smallRepo,
  weights,
} from './support/hub-fetch.ts'

const withHub = async (test: (hub: TestHub) => Promise<void>, options = {}) => {
  const hub = await startHub(options)
  try {
    await test(hub)
  } finally {
    await hub.close()
  }
}

const without = (files: RepoContent, ...names: string[]): RepoContent =>
  Object.fromEntries(Object.entries(files).filter(([name]) => !names.includes(name)))

const assertError = (error: unknown, code: string, message: RegExp) => {
  assert.ok(error instanceof ServerError, String(error))
  assert.equal(error.code, code)
  assert.match(error.message, message)
  assert.doesNotMatch(error.message, /\n/)
}

describe('a checkpoint from a hub', () => {
  it('is what a server needs, in the layout of Hugging Face’s cache; no pickle, no code', () =>
    withHub(async (hub) => {
      const commit = hub.commit(smallRepo)
      const { folder, cacheDir, log } = await fetchFrom({ url: hub.url })
      assert.equal(relative(cacheDir, folder!), `models--org--tiny/snapshots/${commit}`)
      assert.deepEqual(readdirSync(folder!).sort(), [
        'chat_template.jinja',
        'config.json',
        'model.safetensors',
        'tokenizer.json',
      ])
      const blobs = join(cacheDir, 'models--org--tiny/blobs')
      assert.equal(
        realpathSync(join(folder!, 'model.safetensors')),
        realpathSync(join(blobs, sha256(weights))),
      )
      const config = gitDigest(Buffer.from(smallRepo['config.json'] as string))
      assert.ok(readdirSync(blobs).includes(config))
      assert.deepEqual(readFileSync(join(folder!, 'model.safetensors')), weights)
      assert.equal(readFileSync(join(cacheDir, 'models--org--tiny/refs/main'), 'utf8'), commit)
      assert.ok(log.some((line) => line.includes(commit)))
    }))

  it('comes with its shards, each once, and nothing that the index does not name', () =>
    withHub(
      async (hub) => {
        hub.commit(shardedRepo)
        const { folder, error } = await fetchFrom({ url: hub.url })
        assert.equal(error, undefined)
        assert.deepEqual(
          readdirSync(folder!).sort(),
          Object.keys(without(shardedRepo, 'other.safetensors')).sort(),
        )
        assert.equal(hub.ranges('model-00001-of-00002.safetensors').length, 1)
      },
      // The listing comes in pages, as a large one does.
      { pageSize: 2 },
    ))

  it('tells the bytes of the weights that are there and of all', () =>
    withHub(async (hub) => {
      hub.commit(shardedRepo)
      const { progress } = await fetchFrom({ url: hub.url })
      const done = progress.map(([, bytes]) => bytes)
      assert.deepEqual(
        done,
        [...done].sort((a, b) => a - b),
      )
      assert.deepEqual(progress.at(-1), ['downloading org/tiny (8 KiB)', 8000, 8000])
    }))

  it('that is here already is not downloaded again', () =>
    withHub(async (hub) => {
      hub.commit(smallRepo)
      const { cacheDir } = await fetchFrom({ url: hub.url })
      const numBefore = hub.requests.length
      const { folder } = await fetchFrom({ url: hub.url, cacheDir })
      assert.ok(folder)
      const paths = hub.requests.slice(numBefore).map(({ path }) => path.split('/')[4])
      assert.deepEqual(paths, ['tiny', 'tiny'], 'the revision and the listing')
    }))

  it('that Hugging Face’s tools have downloaded is used as it is', () =>
    withHub(async (hub) => {
      const commit = hub.commit(smallRepo)
      const cacheDir = newCacheDir()
      const folder = join(cacheDir, 'models--org--tiny')
      for (const part of ['blobs', 'refs', `snapshots/${commit}`]) {
        mkdirSync(join(folder, part), { recursive: true })
      }
      for (const [name, content] of Object.entries(smallRepo)) {
        const bytes = Buffer.from(content as Buffer)
        const digest = name.endsWith('.safetensors') ? sha256(bytes) : gitDigest(bytes)
        writeFileSync(join(folder, 'blobs', digest), bytes)
        symlinkSync(`../../blobs/${digest}`, join(folder, 'snapshots', commit, name))
      }
      writeFileSync(join(folder, 'refs/main'), commit)
      const online = await fetchFrom({ url: hub.url, cacheDir })
      assert.equal(online.error, undefined)
      assert.ok(!hub.requests.some(({ path }) => path.includes('/resolve/')))
      const offline = await fetchFrom({ url: hub.url, cacheDir, isOffline: true })
      assert.equal(offline.folder, join(folder, 'snapshots', commit))
    }))

  it('a blob without its link is linked, not fetched', () =>
    withHub(async (hub) => {
      hub.commit(smallRepo)
      const cacheDir = newCacheDir()
      mkdirSync(join(cacheDir, 'models--org--tiny/blobs'), { recursive: true })
      writeFileSync(join(cacheDir, 'models--org--tiny/blobs', sha256(weights)), weights)
      const { folder } = await fetchFrom({ url: hub.url, cacheDir })
      assert.deepEqual(readFileSync(join(folder!, 'model.safetensors')), weights)
      assert.deepEqual(hub.ranges('model.safetensors'), [])
    }))

  it('of a branch, a tag or a commit is the commit that it was at the start', () =>
    withHub(async (hub) => {
      const first = hub.commit(smallRepo, 'refs/pr/1')
      const second = hub.commit({ ...smallRepo, 'model.safetensors': randomBytes(500) })
      const cacheDir = newCacheDir()
      for (const [id, commit] of [
        ['org/tiny@refs/pr/1', first],
        [`org/tiny@${first}`, first],
        ['org/tiny', second],
      ] as const) {
        const { folder } = await fetchFrom({ url: hub.url, id, cacheDir })
        assert.ok(folder?.endsWith(`/snapshots/${commit}`), id)
      }
    }))

  it('whose branch moves while it downloads is still one commit', () =>
    withHub(async (hub) => {
      const commit = hub.commit(smallRepo)
      const { folder } = await fetchFrom({
        url: hub.url,
        checkConfig: () => {
          hub.commit({ ...smallRepo, 'model.safetensors': randomBytes(500) })
        },
      })
      assert.ok(folder?.endsWith(`/snapshots/${commit}`))
      assert.deepEqual(readFileSync(join(folder!, 'model.safetensors')), weights)
    }))

  it('that changed on the hub begins anew beside the half of the old one', () =>
    withHub(async (hub) => {
      hub.commit(smallRepo)
      hub.fail('model.safetensors', { kind: 'drop', after: 100_000 })
      const stop = new AbortController()
      const { cacheDir, error } = await fetchFrom({
        url: hub.url,
        signal: stop.signal,
        wait: async () => {
          stop.abort()
          stop.signal.throwIfAborted()
        },
      })
      assert.ok(error)
      const changed = randomBytes(200_000)
      hub.commit({ ...smallRepo, 'model.safetensors': changed })
      const { folder } = await fetchFrom({ url: hub.url, cacheDir })
      assert.deepEqual(readFileSync(join(folder!, 'model.safetensors')), changed)
      assert.deepEqual(hub.ranges('model.safetensors'), ['bytes=0-', 'bytes=0-'])
    }))

  it('from a hub without hashes is checked by size', () =>
    withHub(
      async (hub) => {
        hub.commit(smallRepo)
        hub.fail('model.safetensors', { kind: 'body', body: weights.subarray(1) })
        const { folder } = await fetchFrom({ url: hub.url })
        assert.deepEqual(readFileSync(join(folder!, 'model.safetensors')), weights)
      },
      { hasDigests: false },
    ))

  it('of a kind that is not served is refused before its weights come', () =>
    withHub(async (hub) => {
      hub.commit(smallRepo)
      const { error } = await fetchFrom({
        url: hub.url,
        checkConfig: (json) => {
          assert.deepEqual(json, { model_type: 'qwen2' })
          throw new ServerError('unsupported_checkpoint', 'no such architecture')
        },
      })
      assertError(error, 'unsupported_checkpoint', /no such architecture/)
      assert.deepEqual(hub.ranges('model.safetensors'), [])
    }))

  const broken: ReadonlyArray<readonly [string, RepoContent, string, RegExp]> = [
    [
      'without safetensors names the pickle',
      without(smallRepo, 'model.safetensors'),
      'unsupported_checkpoint',
      /neither model\.safetensors nor .*; pytorch_model\.bin is a pickle and is never loaded/,
    ],
    [
      'without a tokenizer.json is refused',
      without(smallRepo, 'tokenizer.json'),
      'unsupported_checkpoint',
      /^--model org\/tiny has no tokenizer\.json/,
    ],
    [
      'without a config.json is refused',
      without(smallRepo, 'config.json'),
      'unsupported_checkpoint',
      /has no config\.json/,
    ],
    [
      'with a truncated index is refused',
      { ...shardedRepo, 'model.safetensors.index.json': '{"weight_map": {"a": "mod' },
      'invalid_checkpoint',
      /^model\.safetensors\.index\.json must be JSON/,
    ],
    [
      'with an index that leads out of the folder is refused',
      {
        ...shardedRepo,
        'model.safetensors.index.json': '{"weight_map": {"a": "../a.safetensors"}}',
      },
      'invalid_checkpoint',
      /file beside the index/,
    ],
    [
      'that lacks a shard is refused by the shard’s name',
      without(shardedRepo, 'model-00002-of-00002.safetensors'),
      'invalid_checkpoint',
      /names model-00002-of-00002\.safetensors, which the repository lacks/,
    ],
  ]
  for (const [title, files, code, message] of broken) {
    it(title, () =>
      withHub(async (hub) => {
        hub.commit(files)
        const { error } = await fetchFrom({ url: hub.url })
        assertError(error, code, message)
      }),
    )
  }

  it('that does not fit the disk is refused before a byte of the weights comes', () =>
    withHub(async (hub) => {
      hub.commit(smallRepo)
      const { error } = await fetchFrom({ url: hub.url, freeBytesOf: () => 200_000 })
      assertError(error, 'download_failed', /needs 293 KiB more and .* has 196 KiB.*HF_HUB_CACHE/)
      assert.deepEqual(hub.ranges('model.safetensors'), [])
    }))

  it('into a folder that is a file is one clear line', () =>
    withHub(async (hub) => {
      hub.commit(smallRepo)
      const cacheDir = newCacheDir()
      mkdirSync(join(cacheDir, '..'), { recursive: true })
      writeFileSync(cacheDir, '')
      const { error } = await fetchFrom({ url: hub.url, cacheDir: join(cacheDir, 'hub') })
      assertError(error, 'download_failed', /cannot be written \(ENOTDIR\); set HF_HUB_CACHE/)
    }))

  it('into a folder that cannot be made is refused at once', () =>
    withHub(async (hub) => {
      hub.commit(smallRepo)
      const link = newCacheDir()
      mkdirSync(join(link, '..'), { recursive: true })
      symlinkSync(join(link, '..', 'gone'), link)
      // Node's recursive mkdir never returns where the system answers ENOENT below /proc.
      const impossible = existsSync('/proc/self') ? ['/proc/nope'] : []
      for (const cacheDir of [...impossible, link]) {
        const { error } = await fetchFrom({ url: hub.url, cacheDir })
        assertError(error, 'download_failed', /cannot be written \(E[A-Z]+\); set HF_HUB_CACHE/)
      }
    }))
})

describe('without a hub', () => {
  it('what is complete in the cache is served, and the log says that the hub was not asked', async () => {
    const hub = await startHub()
    hub.commit(shardedRepo)
    const { cacheDir, folder } = await fetchFrom({ url: hub.url })
    await hub.close()
    const again = await fetchFrom({ url: hub.url, cacheDir })
    assert.equal(again.folder, folder)
    assert.match(again.log.join('\n'), /cannot be reached \(ECONNREFUSED\).*using the cached/)
  })

  it('what is not complete is no checkpoint', async () => {
    const hub = await startHub()
    const commit = hub.commit(shardedRepo)
    hub.fail('model-00002-of-00002.safetensors', { kind: 'status', status: 404 })
    const { cacheDir, error } = await fetchFrom({ url: hub.url })
    assertError(error, 'hub_not_found', /org\/tiny/)
    await hub.close()
    for (const id of ['org/tiny', `org/tiny@${commit}`]) {
      const offline = await fetchFrom({ url: hub.url, id, cacheDir, isOffline: true })
      assertError(
        offline.error,
        'hub_unavailable',
        /HF_HUB_OFFLINE is set, and revision .* not complete/,
      )
      assert.deepEqual(offline.waits, [])
    }
  })

  it('nobody at the address is one line with host and remedy, after five tries', async () => {
    const hub = await startHub()
    await hub.close()
    const { error, waits } = await fetchFrom({ url: hub.url })
    const { host } = new URL(hub.url)
    assertError(
      error,
      'hub_unavailable',
      new RegExp(`the hub at ${host} cannot be reached \\(ECONNREFUSED\\); check .*HF_ENDPOINT`),
    )
    assert.deepEqual(waits, [500, 1000, 2000, 4000])
  })

  it('HF_HUB_OFFLINE asks nobody', () =>
    withHub(async (hub) => {
      hub.commit(smallRepo)
      const { error } = await fetchFrom({ url: hub.url, isOffline: true })
      assertError(error, 'hub_unavailable', /HF_HUB_OFFLINE/)
      assert.deepEqual(hub.requests, [])
    }))

  for (const body of [
    '<html>Sign in to the wireless network</html>',
    'null',
    '{"sha": "../../x"}',
  ]) {
    it(`an address that answers ${body} is no hub`, () =>
      withHub(async (hub) => {
        hub.commit(smallRepo)
        hub.fail('revision', { kind: 'body', body: Buffer.from(body) })
        const { error } = await fetchFrom({ url: hub.url })
        assertError(error, 'hub_unavailable', /does not answer as a Hugging Face hub does/)
      }))
  }
})
