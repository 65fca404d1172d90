// One file from the hub under every fault that a network and a disk have.

import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { ServerError } from '../server/errors.ts'
import { downloadFile, halfPath } from '../server/hub/download.ts'
import { createHubFetch } from '../server/hub/hub-fetch.ts'
import { createRetry } from '../server/hub/retries.ts'
import { within } from './support/deadline.ts'
import { type Fault, sha256, startHub, type TestHub } from './support/hub.ts'
import { type Fetched, fetchFrom, newCacheDir, smallRepo, weights } from './support/hub-fetch.ts'

const name = 'model.safetensors'

const run = async (
  faults: readonly Fault[],
  test: (hub: TestHub, fetched: Fetched) => void | Promise<void>,
  prepare: (cacheDir: string) => void = () => {},
) => {
  const hub = await startHub()
  try {
    hub.commit(smallRepo)
    hub.fail(name, ...faults)
    const cacheDir = newCacheDir()
    prepare(cacheDir)
    await test(hub, await fetchFrom({ url: hub.url, cacheDir }))
  } finally {
    await hub.close()
  }
}

const blobsOf = (cacheDir: string) => join(cacheDir, 'models--org--tiny/blobs')
const blobOf = (cacheDir: string) => join(blobsOf(cacheDir), sha256(weights))

const assertWhole = ({ folder, error, cacheDir }: Fetched) => {
  assert.equal(error, undefined)
  assert.deepEqual(readFileSync(join(folder!, name)), weights)
  assert.ok(!readdirSync(blobsOf(cacheDir)).some((file) => file.includes('incomplete')))
}

const assertFailed = ({ error, cacheDir }: Fetched, code: string, message: RegExp) => {
  assert.ok(error instanceof ServerError, String(error))
  assert.equal(error.code, code)
  assert.match(error.message, message)
  assert.ok(!existsSync(blobOf(cacheDir)), 'nothing under its final name')
}

const keepHalf = (bytes: Buffer) => (cacheDir: string) => {
  mkdirSync(blobsOf(cacheDir), { recursive: true })
  writeFileSync(halfPath(blobOf(cacheDir)), bytes)
}

describe('a download', () => {
  it('goes on where the connection broke', () =>
    run(
      [
        // In one piece: fetch throws away what it had not yet handed on when the connection broke.
        { kind: 'drop', after: 10_000 },
        { kind: 'drop', after: 5_000 },
      ],
      (hub, fetched) => {
        assertWhole(fetched)
        assert.deepEqual(hub.ranges(name), ['bytes=0-', 'bytes=10000-', 'bytes=15000-'])
        assert.deepEqual(fetched.waits, [500, 500], 'progress starts the count anew')
      },
    ))

  it('goes on where a killed process left it', () =>
    run(
      [],
      (hub, fetched) => {
        assertWhole(fetched)
        assert.deepEqual(hub.ranges(name), ['bytes=123456-'])
        assert.equal(fetched.progress[0]?.[1], 123_456)
      },
      keepHalf(weights.subarray(0, 123_456)),
    ))

  it('that a killed process had completed is checked and named', () =>
    run(
      [],
      (hub, fetched) => {
        assertWhole(fetched)
        assert.deepEqual(hub.ranges(name), [])
      },
      keepHalf(weights),
    ))

  it('whose kept half is wrong begins anew, once', () =>
    run(
      [],
      (hub, fetched) => {
        assertWhole(fetched)
        assert.deepEqual(hub.ranges(name), ['bytes=1000-', 'bytes=0-'])
      },
      keepHalf(Buffer.alloc(1000)),
    ))

  it('whose kept half is too long begins anew', () =>
    run([], (_, fetched) => assertWhole(fetched), keepHalf(Buffer.alloc(weights.length + 1))))

  it('from a hub without ranges begins at the first byte', () =>
    run([{ kind: 'drop', after: 10_000 }, { kind: 'ignoresRange' }], (hub, fetched) => {
      assertWhole(fetched)
      assert.deepEqual(hub.ranges(name), ['bytes=0-', 'bytes=10000-'])
    }))

  it('from a hub without ranges that always breaks off at the same place ends', () =>
    run(
      Array.from(
        { length: 20 },
        () => ({ kind: 'drop', after: 1000, ignoresRange: true }) as const,
      ),
      (hub, fetched) => {
        assertFailed(fetched, 'hub_unavailable', /cannot be reached/)
        assert.equal(hub.ranges(name).length, 5)
        assert.deepEqual(
          readFileSync(halfPath(blobOf(fetched.cacheDir))),
          weights.subarray(0, 1000),
        )
      },
    ))

  it('of wrong bytes is done once more', () =>
    run([{ kind: 'wrongBytes' }], (hub, fetched) => {
      assertWhole(fetched)
      assert.deepEqual(hub.ranges(name), ['bytes=0-', 'bytes=0-'])
    }))

  it('of wrong bytes twice is an error, and nothing of it stays', () =>
    run([{ kind: 'wrongBytes' }, { kind: 'wrongBytes' }], (hub, fetched) => {
      assertFailed(fetched, 'download_failed', /model\.safetensors: its sha256 checksum is not/)
      assert.ok(!existsSync(halfPath(blobOf(fetched.cacheDir))))
      assert.equal(hub.ranges(name).length, 2)
    }))

  it('of a small file is checked by git’s hash', async () => {
    const hub = await startHub()
    try {
      hub.commit(smallRepo)
      hub.fail('config.json', { kind: 'wrongBytes' }, { kind: 'wrongBytes' })
      const { error } = await fetchFrom({ url: hub.url })
      assert.match(String(error), /config\.json: its git-blob checksum is not/)
    } finally {
      await hub.close()
    }
  })

  for (const [title, body] of [
    ['fewer', weights.subarray(0, 1000)],
    ['more', Buffer.concat([weights, weights])],
  ] as const) {
    it(`of ${title} bytes than the hub lists is an error after one more try`, () =>
      run(
        [
          { kind: 'body', body },
          { kind: 'body', body },
        ],
        (hub, fetched) => {
          assertFailed(fetched, 'download_failed', new RegExp(`has ${body.length} bytes where`))
          assert.equal(hub.ranges(name).length, 2)
        },
      ))
  }

  it('waits as long as the hub asks, and else longer each time', () =>
    run(
      [
        { kind: 'status', status: 429, headers: { 'retry-after': '7' } },
        { kind: 'status', status: 503 },
        { kind: 'status', status: 503, headers: { 'retry-after': '999999' } },
        { kind: 'status', status: 500, headers: { 'retry-after': 'soon' } },
      ],
      (_, fetched) => {
        assertWhole(fetched)
        assert.deepEqual(fetched.waits, [7000, 1000, 300_000, 4000])
      },
    ))

  it('ends after five failures in a row, with the status', () =>
    run(
      Array.from({ length: 9 }, () => ({ kind: 'status', status: 503 }) as const),
      (hub, fetched) => {
        assertFailed(fetched, 'hub_unavailable', /answers with status 503; try again later/)
        assert.equal(hub.ranges(name).length, 5)
      },
    ))

  it('that stalls is asked for again from there', async () => {
    const hub = await startHub()
    try {
      const commit = hub.commit(smallRepo)
      hub.fail(name, { kind: 'stall' })
      const signal = new AbortController().signal
      const path = join(newCacheDir(), 'blob')
      const logger = { debug() {}, info() {}, warn() {}, error() {} }
      const download = downloadFile({
        url: `${hub.url}/org/tiny/resolve/${commit}/${name}`,
        file: { name, size: weights.length, digest: { kind: 'sha256', hex: sha256(weights) } },
        path,
        fetch: createHubFetch({ settings: { endpoint: hub.url, token: null }, signal }),
        retry: createRetry({ wait: async () => {}, signal, logger }),
        signal,
        stallMs: 200,
      })
      await within(10_000, 'end of the download', download)
      assert.deepEqual(readFileSync(path), weights)
      assert.deepEqual(hub.ranges(name), ['bytes=0-', 'bytes=150000-'])
    } finally {
      await hub.close()
    }
  })

  it('two at once into one cache both end well', async () => {
    const hub = await startHub()
    try {
      hub.commit(smallRepo)
      const cacheDir = newCacheDir()
      const both = await Promise.all([
        fetchFrom({ url: hub.url, cacheDir }),
        fetchFrom({ url: hub.url, cacheDir }),
      ])
      for (const fetched of both) assertWhole(fetched)
    } finally {
      await hub.close()
    }
  })

  // Every write to /dev/full is a write to a full disk.
  const lacksFull =
    existsSync('/dev/full') || process.env.DUTYFREE_REQUIRE_ALL === '1'
      ? false
      : 'this system has no /dev/full'
  it('onto a full disk is one clear line', { skip: lacksFull }, () =>
    run(
      [],
      (_, fetched) =>
        assertFailed(fetched, 'download_failed', /^The disk of .* is full\. .* is kept: make room/),
      (cacheDir) => {
        mkdirSync(blobsOf(cacheDir), { recursive: true })
        symlinkSync('/dev/full', halfPath(blobOf(cacheDir)))
      },
    ),
  )
})
