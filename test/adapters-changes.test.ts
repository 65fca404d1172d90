// Changes of the adapters folder while requests run: what comes into service, what it replaces, what stays
// where something goes wrong.

import assert from 'node:assert/strict'
import fs, { existsSync, mkdirSync, readdirSync, renameSync, symlinkSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { createAdapterChanges } from '../server/adapter-changes/changes.ts'
import { recoverFolders } from '../server/adapter-changes/folder-swap.ts'
import { type AcquiredAdapters, createAdapterStore } from '../server/adapters/store.ts'
import { type AdapterChange, incomingFolder } from '../server/contracts/adapter.ts'
import { ServerError } from '../server/errors.ts'
import { within } from './support/deadline.ts'
import { createTempFolder } from './support/temp-folder.ts'
import {
  smallAdapterBytes as adapterBytes,
  loraTensors,
  smallModel,
  type TestAdapter,
  upTensors,
  writeAdapter,
} from './support/tensor-files.ts'

const temp = createTempFolder()
let numRoots = 0

const seeded = (seed: number): TestAdapter => ({ tensors: upTensors({ seed }) })
const strength = (value: number): TestAdapter => ({ manifest: { recommended_strength: value } })

/** A store and its changes over a folder, with room for so many rank-1 adapters. */
function createWorld({
  root = join(temp, `world-${++numRoots}`),
  room = 8,
  operators = [] as readonly string[],
} = {}) {
  const incoming = join(root, incomingFolder)
  mkdirSync(incoming, { recursive: true })
  const store = createAdapterStore({
    root,
    modelConfig: smallModel,
    sites: new Set(['up_proj']),
    maxBytes: room * adapterBytes,
    maxRankPerRow: 4,
    baseDigest: 'b'.repeat(64),
    reserved: ['base-model'],
  })
  const changes = createAdapterChanges({ root, store, operators, merged: [] })
  const conditions = { replace: false, digest: null, pinned: null } as const
  let numStaged = 0
  return {
    root,
    store,
    install(id: string, adapter: TestAdapter, more: Partial<typeof conditions> | object = {}) {
      const staged = `staged-${++numStaged}`
      writeAdapter(incoming, staged, adapter)
      const change = { kind: 'install', id, staged, ...conditions, ...more } as AdapterChange
      return changes.apply(change)
    },
    load: (id: string, folder = id, more: object = {}) =>
      changes.apply({ kind: 'load', id, folder, ...conditions, ...more } as AdapterChange),
    remove: (id: string, { waitMs = 0, keepsFiles = false } = {}) =>
      changes.apply({ kind: 'remove', id, waitMs, keepsFiles }),
    acquire: (id: string) =>
      store.acquire({ adapters: [{ id, scale: null }], required: [] }, AbortSignal.abort()),
    async listed(id: string) {
      const [summary] = await store.list({ ids: [id] })
      return summary
    },
    /** What lies in our own folder, but for folders that are always there. */
    leftovers: () =>
      ['incoming', 'replaced', 'removed'].flatMap((name) => {
        const path = join(root, '.dutyfree', name)
        return existsSync(path) ? readdirSync(path) : []
      }),
  }
}

const digestOf = ({ applied }: AcquiredAdapters) => applied[0]!.digest
const refused =
  (code: string, message = /./) =>
  (error: unknown) =>
    error instanceof ServerError && error.code === code && message.test(error.message)

describe('an adapter that is installed', () => {
  it('is served from memory at once and listed with its digest; nothing is left over', async () => {
    const world = createWorld()
    const { outcome, adapter } = await world.install('a', seeded(1))
    assert.equal(outcome, 'added')
    assert.deepEqual(
      [adapter?.state, adapter?.rank, adapter?.bytes, adapter?.runningRequests, adapter?.pinned],
      ['resident', 1, adapterBytes, 0, false],
    )
    const held = await world.acquire('a')
    assert.equal(digestOf(held), adapter?.digest)
    assert.equal((await world.listed('a'))?.runningRequests, 1)
    assert.deepEqual(world.leftovers(), [])
  })

  it('is not read again to be served', async () => {
    const world = createWorld()
    await world.install('a', seeded(1))
    const read = fs.promises.open
    const opened: string[] = []
    fs.promises.open = async (file, ...rest) => {
      opened.push(String(file))
      return read(file, ...rest)
    }
    syncBuiltinESMExports()
    try {
      ;(await world.acquire('a')).release()
      await world.listed('a')
      assert.equal(opened.join(), '')
      await world.install('b', seeded(2))
      assert.ok(opened.some((path) => path.endsWith('adapter_model.safetensors')))
    } finally {
      fs.promises.open = read
      syncBuiltinESMExports()
    }
  })

  it('keeps its digest in the list when it has left the memory', async () => {
    const world = createWorld({ room: 1 })
    const { adapter } = await world.install('a', seeded(1))
    await world.install('b', seeded(2))
    const summary = await world.listed('a')
    assert.deepEqual([summary?.state, summary?.digest], ['available', adapter?.digest])
  })

  it('that no engine has sites for yet is listed, and asks for them on use', async () => {
    const world = createWorld()
    const shape = { rank: 1, layers: [0], seed: 1, model: smallModel }
    const tensors = loraTensors({ ...shape, modules: ['q_proj'] })
    const { adapter } = await world.install('a', {
      config: { target_modules: ['q_proj'] },
      tensors,
    })
    assert.deepEqual([adapter?.state, adapter?.targetModules], ['available', ['q_proj']])
    await assert.rejects(world.acquire('a'), (error) => {
      return error instanceof ServerError && error.needs?.modules.join() === 'q_proj'
    })
  })

  const bad: readonly (readonly [string, TestAdapter, string, RegExp])[] = [
    ['no JSON', { config: '{' }, 'invalid_adapter', /not JSON/],
    ['wrong shape', { tensors: upTensors({ rank: 2 }) }, 'invalid_adapter', /rank 2/],
    ['cut tensors', { tensors: Buffer.alloc(4) }, 'invalid_adapter', /safetensors/],
    ['too high a rank', { config: { r: 9 } }, 'adapter_rank_exceeded', /rank 9/],
    ['DoRA', { config: { use_dora: true } }, 'unsupported_adapter', /use_dora/],
    ['a guard', { manifest: { kind: 'guard' } }, 'unsupported_adapter', /guard/],
    [
      'another base',
      { manifest: { base_digest: 'c'.repeat(64) } },
      'adapter_other_base',
      /another base/,
    ],
  ]
  for (const [what, adapter, code, message] of bad) {
    it(`and is bad (${what}) changes nothing, also where it would replace one`, async () => {
      const world = createWorld()
      await assert.rejects(world.install('a', adapter), refused(code, message))
      assert.equal(await world.listed('a'), undefined)
      const { adapter: before } = await world.install('a', seeded(1))
      await assert.rejects(world.install('a', adapter, { replace: true }), refused(code, message))
      assert.deepEqual(await world.listed('a'), before)
    })
  }

  it('and is larger than all of --adapter-memory is refused', async () => {
    const world = createWorld({ room: 0.5 })
    await assert.rejects(world.install('a', seeded(1)), refused('adapter_limit', /adapter-memory/))
    assert.equal(await world.listed('a'), undefined)
  })

  it('must have the digest that is asked for', async () => {
    const world = createWorld()
    const wrong = { digest: 'd'.repeat(64) }
    await assert.rejects(world.install('a', seeded(1), wrong), refused('invalid_adapter', /digest/))
    assert.equal(await world.listed('a'), undefined)
    const { adapter } = await world.install('b', seeded(1))
    const again = await world.install('a', seeded(1), { digest: adapter?.digest })
    assert.equal(again.outcome, 'added')
  })
})

describe('a replacement', () => {
  it('leaves running requests the version that they began with; later ones get the new', async () => {
    const world = createWorld()
    await world.install('a', seeded(1))
    const before = await world.acquire('a')
    const { outcome, adapter, runningRequests } = await world.install('a', seeded(2), {
      replace: true,
    })
    assert.deepEqual([outcome, runningRequests], ['replaced', 1])
    const after = await world.acquire('a')
    assert.equal(digestOf(after), adapter?.digest)
    assert.notEqual(digestOf(before), digestOf(after))
    assert.equal(world.store.usedBytes, 2 * adapterBytes)
    before.release()
    assert.equal(world.store.usedBytes, adapterBytes)
    assert.deepEqual(world.leftovers(), [])
  })

  it('needs replace=true', async () => {
    const world = createWorld()
    await world.install('a', seeded(1))
    await assert.rejects(world.install('a', seeded(2)), refused('adapter_exists', /replace=true/))
  })

  it('of a digest is refused where somebody else was first', async () => {
    const world = createWorld()
    const first = (await world.install('a', seeded(1))).adapter?.digest
    const replace = { digest: first }
    assert.equal((await world.install('a', seeded(2), { replace })).outcome, 'replaced')
    await assert.rejects(world.install('a', seeded(3), { replace }), refused('adapter_exists'))
  })

  it('by the same content changes nothing; another recommended strength is a change', async () => {
    const world = createWorld()
    await world.install('a', strength(1))
    const replace = true
    assert.equal((await world.install('a', strength(1), { replace })).outcome, 'unchanged')
    assert.equal((await world.install('a', strength(0.5), { replace })).outcome, 'replaced')
    assert.equal((await world.acquire('a')).applied[0]?.scale, 0.5)
    assert.deepEqual(world.leftovers(), [])
  })

  it('of two at once, one wins; both with replace=true come one after the other', async () => {
    const world = createWorld()
    const both = await Promise.allSettled([
      world.install('a', seeded(1)),
      world.install('a', seeded(2)),
    ])
    assert.deepEqual(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
    const replace = true
    const outcomes = await Promise.all([
      world.install('a', seeded(3), { replace }),
      world.install('a', seeded(4), { replace }),
    ])
    assert.deepEqual(
      outcomes.map(({ outcome }) => outcome),
      ['replaced', 'replaced'],
    )
    assert.equal(digestOf(await world.acquire('a')), outcomes[1]?.adapter?.digest)
  })
})

describe('a folder by hand', () => {
  it('is loaded by its name, checked whole, and again without being read', async () => {
    const world = createWorld()
    writeAdapter(world.root, 'a', seeded(1))
    assert.equal((await world.listed('a'))?.digest, null)
    const { outcome, adapter } = await world.load('a')
    assert.deepEqual([outcome, adapter?.state], ['added', 'resident'])
    assert.equal((await world.load('a', 'a', { replace: true })).outcome, 'unchanged')
    await assert.rejects(world.load('a'), refused('adapter_exists'))
  })

  it('comes under another name as a copy: who writes the original changes nothing', async () => {
    const world = createWorld()
    writeAdapter(world.root, 'a-v1', seeded(1))
    const { adapter } = await world.load('a', 'a-v1')
    writeAdapter(world.root, 'a-v1', seeded(2))
    const held = await world.acquire('a')
    assert.equal(digestOf(held), adapter?.digest)
    held.release()
    const path = join(world.root, 'a-v1')
    assert.equal((await world.load('a', path, { replace: true })).outcome, 'replaced')
    assert.deepEqual(world.leftovers(), [])
  })

  it('is found inside --adapters only, wherever names and links lead', async () => {
    const world = createWorld()
    const outside = join(temp, `outside-${numRoots}`)
    writeAdapter(outside, 'secret', seeded(1))
    symlinkSync(join(outside, 'secret'), join(world.root, 'link'))
    mkdirSync(join(world.root, 'half'))
    const secret = join(outside, 'secret', 'adapter_model.safetensors')
    symlinkSync(secret, join(world.root, 'half', 'adapter_model.safetensors'))
    writeAdapter(join(world.root, incomingFolder), 'others', seeded(1))
    const names = [
      '../outside/secret',
      join(outside, 'secret'),
      'link',
      `${incomingFolder}/others`,
      '.',
      '',
      '/',
      'a\0b',
      'https://example.com/a',
      'org/name',
    ]
    for (const name of names) {
      await assert.rejects(world.load('a', name), refused('model_not_found'), name)
    }
    await assert.rejects(world.load('a', 'half'), refused('invalid_adapter', /outside/))
    assert.equal(await world.listed('a'), undefined)
    assert.deepEqual(world.leftovers(), ['others'])
  })
})

describe('a removal', () => {
  it('hides the adapter at once; the last request that runs with it frees it', async () => {
    const world = createWorld()
    await world.install('a', seeded(1))
    const held = await world.acquire('a')
    assert.equal((await world.remove('a')).runningRequests, 1)
    await assert.rejects(world.acquire('a'), refused('model_not_found'))
    assert.equal(await world.listed('a'), undefined)
    assert.equal(world.store.usedBytes, adapterBytes)
    held.release()
    assert.equal(world.store.usedBytes, 0)
    assert.deepEqual(world.leftovers(), [])
  })

  it('waits for running requests as long as it is told to, and other changes do not wait', async () => {
    const world = createWorld()
    await world.install('a', seeded(1))
    const held = await world.acquire('a')
    const removal = world.remove('a', { waitMs: 60_000 })
    assert.equal(
      (await within(10_000, 'other change', world.install('b', seeded(2)))).outcome,
      'added',
    )
    held.release()
    assert.equal((await within(10_000, 'removal', removal)).runningRequests, 0)
    const stuck = await world.acquire('b')
    const { runningRequests } = await within(10_000, 'deadline', world.remove('b', { waitMs: 1 }))
    assert.equal(runningRequests, 1)
    stuck.release()
  })

  it('that keeps the files takes them out of service; they are loaded again by name', async () => {
    const world = createWorld()
    const { adapter } = await world.install('a', seeded(1))
    await world.remove('a', { keepsFiles: true })
    await assert.rejects(world.acquire('a'), refused('model_not_found'))
    assert.equal((await world.load('a')).adapter?.digest, adapter?.digest)
    ;(await world.acquire('a')).release()
    // Twice, so that an older one is there.
    await world.remove('a', { keepsFiles: true })
    await world.install('a', seeded(2))
    await world.remove('a', { keepsFiles: true })
    assert.notEqual((await world.load('a', join(world.root, 'a'))).adapter?.digest, adapter?.digest)
    assert.deepEqual(world.leftovers(), [])
  })

  it('of what is not there, or what the flags need, is refused', async () => {
    const world = createWorld({ operators: ['a'] })
    await assert.rejects(world.remove('a'), refused('model_not_found'))
    await world.install('a', seeded(1))
    await assert.rejects(world.remove('a'), refused('adapter_conflict', /--require-adapter/))
    assert.equal((await world.install('a', seeded(2), { replace: true })).outcome, 'replaced')
  })
})

describe('a pinned adapter', () => {
  it('is not evicted, also in its next version, until it is unpinned', async () => {
    const world = createWorld({ room: 2 })
    const { adapter } = await world.install('a', seeded(1), { pinned: true })
    assert.equal(adapter?.pinned, true)
    const resident = () => [...world.store.residentIds()].sort().join()
    for (const id of ['b', 'c']) await world.install(id, seeded(2))
    assert.equal(resident(), 'a,c')
    await world.install('a', seeded(3), { replace: true })
    ;(await world.acquire('b')).release()
    assert.equal(resident(), 'a,b')
    await world.load('a', 'a', { pinned: false, replace: true })
    for (const id of ['b', 'c']) (await world.acquire(id)).release()
    assert.equal(resident(), 'b,c')
  })

  it('stays pinned over a restart, and not over a removal', async () => {
    const world = createWorld()
    await world.install('a', seeded(1), { pinned: true })
    await world.install('b', seeded(2), { pinned: true })
    await world.remove('b')
    const { root } = world
    const next = createWorld({ root })
    assert.deepEqual([next.store.isPinned('a'), next.store.isPinned('b')], [true, false])
  })

  it('that fills the memory is named to who would wait for ever', async () => {
    const world = createWorld({ room: 1 })
    await world.install('a', seeded(1), { pinned: true })
    await world.install('b', seeded(2))
    await assert.rejects(world.acquire('b'), refused('adapter_limit', /adapter-memory/))
    ;(await world.acquire('a')).release()
  })
})

describe('a crash', () => {
  it('between the two renames brings the former version back; a finished swap stays', async () => {
    const world = createWorld()
    const first = (await world.install('a', seeded(1))).adapter?.digest
    const second = (await world.install('b', seeded(2))).adapter?.digest
    const replaced = join(world.root, '.dutyfree', 'replaced')
    mkdirSync(replaced, { recursive: true })
    renameSync(join(world.root, 'a'), join(replaced, 'a~x'))
    writeAdapter(replaced, 'b~y', seeded(3))
    writeAdapter(join(world.root, '.dutyfree', 'removed'), 'z', seeded(4))
    await recoverFolders(world.root)
    const next = createWorld({ root: world.root })
    assert.equal((await next.load('a')).adapter?.digest, first)
    assert.equal((await next.load('b')).adapter?.digest, second)
    assert.deepEqual(next.leftovers(), [])
  })

  it('needs no folder to recover', async () => {
    await recoverFolders(join(temp, 'no-such-folder'))
  })
})

describe('a disk that fails', () => {
  for (const [code, expected] of [
    ['ENOSPC', 'storage_full'],
    ['EROFS', 'storage_unavailable'],
  ] as const) {
    it(`(${code}) at a rename leaves the version in service`, async () => {
      const world = createWorld()
      const { adapter } = await world.install('a', seeded(1))
      const original = fs.renameSync
      let numRenames = 0
      // The second one: the new folder into its place.
      fs.renameSync = (from, to) => {
        if (++numRenames === 2) throw Object.assign(new Error(code), { code, syscall: 'rename' })
        original(from, to)
      }
      syncBuiltinESMExports()
      try {
        const change = world.install('a', seeded(2), { replace: true })
        await assert.rejects(change, refused(expected, /nothing was changed/))
      } finally {
        fs.renameSync = original
        syncBuiltinESMExports()
      }
      assert.equal(digestOf(await world.acquire('a')), adapter?.digest)
      assert.deepEqual(await world.install('b', seeded(3)).then(({ outcome }) => outcome), 'added')
    })
  }
})

describe('a folder that is being written', () => {
  it('is served in its former version; without one it is waited for until it rests', async () => {
    const root = join(temp, `settling-${++numRoots}`)
    mkdirSync(root)
    const settleMs = 300
    const store = createAdapterStore({
      root,
      modelConfig: smallModel,
      sites: new Set(['up_proj']),
      maxBytes: 8 * adapterBytes,
      maxRankPerRow: 4,
      settleMs,
    })
    const acquire = () => store.acquire({ adapters: [{ id: 'a', scale: null }], required: [] })
    writeAdapter(root, 'a', seeded(1))
    const first = await acquire()
    writeAdapter(root, 'a', seeded(2))
    const meanwhile = await acquire()
    assert.equal(digestOf(meanwhile), digestOf(first))
    const untilNew = async () => {
      while (digestOf(await acquire()) === digestOf(first));
    }
    await within(10_000, 'new version', untilNew())
  })
})
