// The store: loading on demand, sharing, eviction, replacement on disk, and what must never happen
// to a request that is running.

import assert from 'node:assert/strict'
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ReadAdapter } from '../server/adapters/peft.ts'
import {
  type AcquiredAdapters,
  type AdapterStoreOptions,
  createAdapterStore,
} from '../server/adapters/store.ts'
import { ServerError } from '../server/errors.ts'
import { within } from './support/deadline.ts'
import { createTempFolder } from './support/temp-folder.ts'
import {
  smallAdapterBytes as adapterBytes,
  encodeSafetensors,
  loraTensors,
  smallModel,
  type TestAdapter,
  upKey,
  upTensors,
  writeAdapter,
} from './support/tensor-files.ts'

const temp = createTempFolder()
let numRoots = 0

const smallStore = {
  modelConfig: smallModel,
  sites: new Set(['up_proj'] as const),
  maxBytes: 8 * adapterBytes,
  maxRankPerRow: 4,
  reserved: ['base-model'],
}

/** A store over a fresh folder with room for so many rank-1 adapters. */
function createTestStore(
  adapters: Readonly<Record<string, TestAdapter>> = {},
  room = 8,
  more: Partial<AdapterStoreOptions> = {},
) {
  const root = join(temp, `store-${++numRoots}`)
  mkdirSync(root)
  for (const [id, adapter] of Object.entries(adapters)) writeAdapter(root, id, adapter)
  const store = createAdapterStore({
    ...smallStore,
    root,
    maxBytes: room * adapterBytes,
    ...more,
  })
  return {
    root,
    store,
    acquire: (...ids: string[]) => store.acquire(selectionOf(ids)),
    /** Refused where acquire would wait for room. */
    acquireNow: (...ids: string[]) => store.acquire(selectionOf(ids), AbortSignal.abort()),
    numResident: () => store.usedBytes / adapterBytes,
  }
}

const selectionOf = (ids: readonly string[]) => ({
  adapters: ids.map((id) => ({ id, scale: null })),
  required: [],
})

/** First row of A of layer 0. */
const vector = ({ components }: AcquiredAdapters): number[] => [
  ...components[0]!.component.find(({ layer }) => layer === 0)!.a,
]

const seeded = (seed: number, rank = 1): TestAdapter => ({
  config: { r: rank },
  tensors: upTensors({ seed, rank }),
})
const vectorOf = (seed: number) => [
  ...(upTensors({ seed })[upKey(0, 'A')]!.data as Float32Array).subarray(0, 8),
]

test('A, then B, then A again: each has its own vectors', async () => {
  const { acquire } = createTestStore({ a: seeded(1), b: seeded(2) }, 1)
  for (const [id, seed] of [
    ['a', 1],
    ['b', 2],
    ['a', 1],
  ] as const) {
    const held = await acquire(id)
    assert.deepEqual(vector(held), vectorOf(seed))
    held.release()
  }
})

test('a strength of null is the adapter’s own; each rank is a component', async () => {
  const { store } = createTestStore({
    a: { ...seeded(1, 2), manifest: { recommended_strength: 0.5 } },
    b: seeded(2),
  })
  const held = await store.acquire({
    adapters: [
      { id: 'a', scale: null },
      { id: 'b', scale: 2 },
    ],
    required: [],
  })
  assert.equal(new Set(held.components.map(({ component }) => component)).size, 3)
  assert.deepEqual(
    held.components.map(({ scale }) => scale),
    [0.5, 0.5, 2],
  )
  assert.deepEqual(
    held.applied.map(({ id, scale }) => [id, scale]),
    [
      ['a', 0.5],
      ['b', 2],
    ],
  )
  assert.match(held.applied[0]!.digest, /^[0-9a-f]{64}$/)
})

test('no adapters is the base: nothing is held', async () => {
  const { acquire } = createTestStore()
  const held = await acquire()
  assert.deepEqual([held.applied, held.components], [[], []])
  held.release()
})

test('concurrent requests for one adapter share one load', async () => {
  const { acquire, numResident } = createTestStore({ a: seeded(1) })
  const all = await Promise.all(Array.from({ length: 20 }, () => acquire('a')))
  assert.equal(new Set(all.map(({ components }) => components[0]?.component)).size, 1)
  assert.equal(numResident(), 1)
})

test('the least recently used idle adapter leaves first', async () => {
  const { acquire, store } = createTestStore({ a: seeded(1), b: seeded(2), c: seeded(3) }, 2)
  for (const id of ['a', 'b', 'a', 'c']) (await acquire(id)).release()
  assert.deepEqual([...store.residentIds()].sort(), ['a', 'c'])
})

test('an adapter in use is never evicted: with all memory in use a new one waits', async () => {
  const { acquire, acquireNow } = createTestStore({ a: seeded(1), b: seeded(2), c: seeded(3) }, 2)
  const [a, b] = [await acquire('a'), await acquire('b')]
  await assert.rejects(acquireNow('c'), { code: 'adapter_limit' })
  const waiting = acquire('c')
  // What is in memory needs no room: it passes those that wait.
  ;(await acquire('a')).release()
  assert.deepEqual(vector(a), vectorOf(1))
  b.release()
  b.release()
  const c = await within(10_000, 'room', waiting)
  assert.deepEqual(vector(a), vectorOf(1))
  assert.deepEqual(vector(c), vectorOf(3))
})

test('a refused combination holds nothing', async () => {
  const { acquire, acquireNow, numResident } = createTestStore(
    { a: seeded(1), b: seeded(2), c: seeded(3) },
    2,
  )
  const a = await acquire('a')
  await assert.rejects(acquireNow('b', 'c'), { code: 'adapter_limit' })
  await assert.rejects(acquire('b', 'missing'), { code: 'model_not_found' })
  a.release()
  const both = await acquire('b', 'c')
  assert.equal(numResident(), 2)
  both.release()
})

test('whoever waits for room gets it in turn, also when one of them gives up', async () => {
  const ids = ['a', 'b', 'c', 'd']
  const { acquire, store } = createTestStore(
    {
      ...Object.fromEntries(ids.map((id, i) => [id, seeded(i + 1)])),
      broken: { tensors: Buffer.alloc(3) },
    },
    1,
  )
  const first = await acquire('a')
  const order: string[] = []
  const signals = ids.map(() => new AbortController())
  const waits: Promise<unknown>[] = []
  for (const [i, id] of ids.slice(1).entries()) {
    const wait = store.acquire(selectionOf([id]), signals[i]!.signal).then(
      (held) => {
        order.push(id)
        assert.deepEqual(vector(held), vectorOf(i + 2))
        held.release()
      },
      ({ code }: { code: string }) => order.push(`${id} ${code}`),
    )
    waits.push(wait)
    // They stand in line in the order in which they were read. Files are read one after the other, so
    // when this one has been, the one before it has been too.
    await assert.rejects(acquire('broken'), { code: 'invalid_adapter' })
  }
  // c gives up while b, before it, still waits.
  signals[1]!.abort()
  await within(10_000, 'the one that gave up', waits[1]!)
  assert.deepEqual(order, ['c adapter_limit'])
  first.release()
  await within(10_000, 'the others', Promise.all(waits))
  assert.deepEqual(order, ['c adapter_limit', 'b', 'd'])
})

test('adapters that never fit are refused at once, with both numbers', async () => {
  const { acquire, numResident } = createTestStore({ a: seeded(1), b: seeded(2, 2) }, 1)
  const numbers = new RegExp(`${2 * adapterBytes} bytes.* ${adapterBytes}\\.`)
  await assert.rejects(acquire('b'), { code: 'adapter_limit', message: numbers })
  assert.equal(numResident(), 0)
  assert.deepEqual(vector(await acquire('a')), vectorOf(1))
})

test('a request that waits for room is refused when its adapter is taken away', async () => {
  const { acquire, root } = createTestStore({ a: seeded(1), b: seeded(2) }, 1)
  const a = await acquire('a')
  // It is being read or waits by now; neither may serve it.
  const waiting = assert.rejects(acquire('b'), { code: /^(model_not_found|invalid_adapter)$/ })
  rmSync(join(root, 'b'), { recursive: true })
  a.release()
  await within(10_000, 'refusal', waiting)
})

test('a total rank over the limit is refused with both numbers, before anything is written', async () => {
  const { acquire, numResident } = createTestStore({ a: seeded(1, 3), b: seeded(2, 2) })
  await assert.rejects(acquire('a', 'b'), (error: Error & { code: string }) => {
    assert.equal(error.code, 'adapter_rank_exceeded')
    assert.match(error.message, /rank 5.*at most 4/)
    return true
  })
  assert.equal(numResident(), 0)
})

test('unknown and impossible names are 404, the same adapter twice a conflict', async () => {
  const { acquire } = createTestStore({ a: seeded(1) })
  for (const id of ['b', '..', '../a', 'a/../a', '__proto__', 'constructor', '', 'x'.repeat(65)]) {
    await assert.rejects(acquire(id), { code: 'model_not_found' }, id)
  }
  await assert.rejects(acquire('a', 'a'), { code: 'adapter_conflict' })
})

test('a folder replaced on disk serves new requests; those under way keep the old version', async () => {
  const { acquire, root, numResident } = createTestStore({ a: seeded(1) })
  const old = await acquire('a')
  writeAdapter(root, 'a.new', seeded(2))
  renameSync(join(root, 'a'), join(root, 'a.old'))
  renameSync(join(root, 'a.new'), join(root, 'a'))
  const fresh = await acquire('a')
  assert.notEqual(fresh.applied[0]!.digest, old.applied[0]!.digest)
  assert.deepEqual(vector(old), vectorOf(1))
  assert.deepEqual(vector(fresh), vectorOf(2))
  assert.equal(numResident(), 2)
  old.release()
  assert.equal(numResident(), 1)
  fresh.release()
  assert.equal(numResident(), 1)
})

test('a deleted folder is 404 at once; a request under way keeps it, then its memory is free', async () => {
  const { acquire, root, numResident } = createTestStore({ a: seeded(1) })
  const held = await acquire('a')
  rmSync(join(root, 'a'), { recursive: true })
  await assert.rejects(acquire('a'), { code: 'model_not_found' })
  assert.deepEqual(vector(held), vectorOf(1))
  held.release()
  assert.equal(numResident(), 0)
})

test('a half-written folder is refused, then served when it is whole', async () => {
  const { acquire, root, store } = createTestStore()
  const bytes = encodeSafetensors(upTensors())
  writeAdapter(root, 'a', { tensors: bytes.subarray(0, bytes.length / 2) })
  await assert.rejects(acquire('a'), { code: 'invalid_adapter' })
  assert.equal((await store.list())[0]!.state, 'invalid')
  writeAdapter(root, 'a')
  const held = await acquire('a')
  assert.equal(held.components.length, 1)
  assert.equal((await store.list())[0]!.state, 'resident')
})

test('a folder that is taken away while it is waited for or read is 404, and nothing is kept of it', async () => {
  const { acquire, root, store } = createTestStore({ a: seeded(1) }, 8, { settleMs: 30 })
  const waiting = assert.rejects(acquire('a'), { code: 'model_not_found' })
  rmSync(join(root, 'a'), { recursive: true })
  await waiting
  writeAdapter(root, 'a')
  const read: ReadAdapter = async () => {
    rmSync(join(root, 'a'), { recursive: true })
    throw new ServerError('invalid_adapter', 'adapter_config.json is missing.')
  }
  const other = createAdapterStore({ ...smallStore, root, read })
  const selection = selectionOf(['a'])
  await assert.rejects(other.acquire(selection), { code: 'model_not_found' })
  assert.deepEqual([...(await store.list()), ...(await other.list())], [])
  writeAdapter(root, 'a')
  assert.equal((await other.list())[0]!.state, 'available')
})

test('a folder that keeps changing while it is read is never served as a mixture', async () => {
  const { acquire, root } = createTestStore({ a: seeded(1) })
  const digests = new Map<string, number>()
  for (const seed of [1, 2]) {
    writeAdapter(root, `copy-${seed}`, seeded(seed))
    digests.set((await acquire(`copy-${seed}`)).applied[0]!.digest, seed)
  }
  let isWriting = true
  const writer = (async () => {
    for (let i = 0; isWriting; i++) {
      writeFileSync(
        join(root, 'a', 'adapter_model.safetensors'),
        encodeSafetensors(upTensors({ seed: 1 + (i % 2) }), { format: 'pt' }),
      )
      await sleep(1)
    }
  })()
  for (let i = 0; i < 10; i++) {
    const held = await acquire('a').catch((error: { code: string }) => error)
    if ('code' in held) assert.equal(held.code, 'invalid_adapter')
    else {
      assert.ok(digests.has(held.applied[0]!.digest))
      held.release()
    }
  }
  isWriting = false
  await writer
})

test('50 bad loads beside good ones: every good one succeeds', async () => {
  const { acquire } = createTestStore({ good: seeded(1), bad: { tensors: Buffer.alloc(3) } })
  const results = await Promise.allSettled(
    Array.from({ length: 100 }, (_, i) => acquire(i % 2 ? 'good' : 'bad')),
  )
  assert.ok(results.every(({ status }, i) => status === (i % 2 ? 'fulfilled' : 'rejected')))
})

test('the list names each folder and its state, reads no tensors and says what is wrong', async () => {
  const { acquire, root, store } = createTestStore({
    a: { ...seeded(1), manifest: { description: 'refuses', recommended_strength: 0.8 } },
    broken: { config: 'no' },
    'tensors-broken': { tensors: Buffer.alloc(3) },
  })
  writeAdapter(root, '.hidden')
  writeAdapter(root, 'bad name')
  writeFileSync(join(root, 'README.md'), 'not a folder')
  symlinkSync(temp, join(root, 'escape'))
  const find = async (id: string) => (await store.list()).find((summary) => summary.id === id)!
  assert.deepEqual(
    (await store.list()).map(({ id, state }) => [id, state]),
    [
      ['.hidden', 'invalid'],
      ['a', 'available'],
      ['bad name', 'invalid'],
      ['broken', 'invalid'],
      ['escape', 'invalid'],
      ['tensors-broken', 'available'],
    ],
  )
  const a = await find('a')
  assert.deepEqual([a.digest, a.rank, a.defaultScale], [null, 1, 0.8])
  assert.match((await find('broken')).error!.message, /^Adapter "broken": .*not JSON/)
  const { digest } = (await acquire('a')).applied[0]!
  const loaded = await find('a')
  assert.deepEqual([loaded.state, loaded.digest, loaded.numLayers], ['resident', digest, 3])
  await assert.rejects(acquire('tensors-broken'), { code: 'invalid_adapter' })
  assert.equal((await find('tensors-broken')).state, 'invalid')
})

test('a folder that is called as the base model, or none, is no adapter, and the list says so', async () => {
  const { acquire, store } = createTestStore({ none: seeded(1), 'base-model': seeded(2) })
  for (const summary of await store.list()) {
    assert.equal(summary.state, 'invalid')
    assert.match(summary.error!.message, /rename its folder/)
    await assert.rejects(acquire(summary.id), { code: 'model_not_found' })
  }
  assert.equal((await store.list()).length, 2)
})

test('a folder that was not touched is not read again for the list, one that was is', async () => {
  const { root, store } = createTestStore({
    a: { ...seeded(1), manifest: { description: 'x' } },
    b: seeded(2),
    c: seeded(3),
  })
  const [a, b] = await store.list()
  writeAdapter(root, 'b', { config: { r: 2 } })
  rmSync(join(root, 'c'), { recursive: true })
  const again = await store.list()
  assert.deepEqual(
    again.map(({ id, rank }) => [id, rank]),
    [
      ['a', 1],
      ['b', 2],
    ],
  )
  // The very same objects: nothing was parsed again.
  assert.equal(again[0]!.manifest, a!.manifest)
  assert.equal(b!.rank, 1)
})

test('an adapter of another base is refused by that name, and listed as sound', async () => {
  const [ours, theirs] = ['a'.repeat(64), 'b'.repeat(64)]
  const adapters = {
    ours: { ...seeded(1), manifest: { base_digest: ours } },
    theirs: { ...seeded(2), manifest: { base_digest: theirs, base_model: 'their/model', seed: 7 } },
    silent: seeded(3),
  }
  const { acquire, store } = createTestStore(adapters, 8, { baseDigest: ours })
  const states = async () => (await store.list()).map(({ id, state }) => [id, state])
  const before = [
    ['ours', 'available'],
    ['silent', 'available'],
    ['theirs', 'other_base'],
  ]
  assert.deepEqual(await states(), before)
  await assert.rejects(acquire('theirs'), {
    code: 'adapter_other_base',
    param: 'adapter',
    message:
      /^Adapter "theirs": it is for another base: "their\/model", base_digest bbbbbbbbbbbb….*--adapter-base any/,
  })
  for (const id of ['ours', 'silent']) (await acquire(id)).release()
  const refused = (await store.list()).find(({ id }) => id === 'theirs')!
  assert.equal(refused.state, 'other_base')
  assert.deepEqual(refused.base, { model: 'their/model', digest: theirs })
  assert.match(refused.error!.message, /another base/)
  assert.equal(refused.manifest!.seed, 7)
})

test('what only another base can judge is not judged: its tensors, its modules, its config', async () => {
  const manifest = { base_digest: 'b'.repeat(64) }
  const wide = { ...smallModel, hiddenSize: 16 }
  const folders = {
    wide: { tensors: upTensors({ model: wide }), manifest },
    unlike: { config: { peft_type: 'IA3' }, manifest },
    empty: { ...seeded(1), manifest },
  }
  const { acquire, store, root } = createTestStore(folders, 8, { baseDigest: 'a'.repeat(64) })
  rmSync(join(root, 'empty', 'adapter_model.safetensors'))
  for (const id of Object.keys(folders)) {
    await assert.rejects(acquire(id), { code: 'adapter_other_base' }, id)
  }
  const listed = (await store.list()).map(({ id, state, rank }) => [id, state, rank])
  const expected = [
    ['empty', 'other_base', 1],
    ['unlike', 'other_base', null],
    ['wide', 'other_base', 1],
  ]
  assert.deepEqual(listed, expected)
  // With the check off they are what they are on this base.
  const any = createTestStore({ wide: folders.wide })
  await assert.rejects(any.acquire('wide'), { code: 'invalid_adapter' })
  assert.deepEqual(
    (await any.store.list()).map(({ state }) => state),
    ['invalid'],
  )
})

test('a manifest that comes to name this base makes the adapter one that is served', async () => {
  const [ours, theirs] = ['a'.repeat(64), 'b'.repeat(64)]
  const adapter = { ...seeded(1), manifest: { base_digest: theirs } }
  const { acquire, store, root } = createTestStore({ a: adapter }, 8, { baseDigest: ours })
  await assert.rejects(acquire('a'), { code: 'adapter_other_base' })
  writeAdapter(root, 'a', { ...seeded(1), manifest: { base_digest: ours, seed: 1 } })
  assert.equal((await store.list())[0]!.state, 'available')
  ;(await acquire('a')).release()
})

test('with the check off, an adapter of another base is served', async () => {
  const manifest = { base_digest: 'b'.repeat(64) }
  const { acquire } = createTestStore({ theirs: { ...seeded(1), manifest } })
  const held = await acquire('theirs')
  assert.deepEqual(vector(held), vectorOf(1))
  held.release()
})

test('an adapter with an ill-formed manifest serves; the operator is told, and so is the list', async () => {
  const notices: string[] = []
  const manifest = { recommended_strength: 'lots', base_digest: 12, seed: 3 }
  const { acquire, store } = createTestStore({ a: { ...seeded(1), manifest } }, 8, {
    baseDigest: 'a'.repeat(64),
    onNotice: (message) => notices.push(message),
  })
  const held = await acquire('a')
  assert.equal(held.applied[0]!.scale, 1)
  held.release()
  const { warnings, manifest: shown } = (await store.list())[0]!
  assert.deepEqual(shown, { seed: 3 })
  assert.equal(warnings.length, 2)
  assert.deepEqual(
    notices,
    warnings.map((warning) => `Adapter "a": ${warning}`),
  )
  assert.match(warnings[0]!, /^manifest\.json: recommended_strength: .*ignored\.$/)
})

test('an adapter that changes modules without a site says what another engine would need', async () => {
  const tensors = loraTensors({
    rank: 1,
    layers: [0],
    modules: ['up_proj', 'down_proj'],
    seed: 1,
    model: smallModel,
  })
  const { acquire, store, root } = createTestStore({ wide: { tensors } })
  const versionOf = async () => {
    const error = await acquire('wide').catch((refusal: unknown) => refusal)
    assert.ok(error instanceof ServerError)
    assert.deepEqual([error.code, error.param], ['unsupported_adapter', 'adapter'])
    assert.match(
      error.message,
      /^Adapter "wide": .* changes down_proj; this engine was started for up_proj\./,
    )
    const { version, ...needs } = error.needs!
    assert.deepEqual(needs, { adapterId: 'wide', modules: ['down_proj'] })
    return version
  }
  const before = await versionOf()
  assert.notEqual(before, '')
  assert.equal(await versionOf(), before)
  // Nothing is wrong with the folder.
  assert.equal((await store.list())[0]!.state, 'available')
  writeAdapter(root, 'wide', { tensors, manifest: { description: 'touched' } })
  assert.notEqual(await versionOf(), before)
})

test('a missing adapters folder is an empty one', async () => {
  const { root, store, acquire } = createTestStore()
  rmSync(root, { recursive: true })
  assert.deepEqual(await store.list(), [])
  await assert.rejects(acquire('a'), { code: 'model_not_found' })
})

test('random use never gives a request another adapter’s vectors', async () => {
  const ids = ['a', 'b', 'c', 'd', 'e']
  const { acquire, acquireNow, numResident, root } = createTestStore(
    Object.fromEntries(ids.map((id, i) => [id, seeded(i + 1)])),
    3,
  )
  const held: { got: AcquiredAdapters; seed: number }[] = []
  const seeds = new Map(ids.map((id, i) => [id, i + 1]))
  let state = 1
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  for (let step = 0; step < 400; step++) {
    const id = ids[random(ids.length)]!
    if (random(12) === 0) {
      seeds.set(id, 100 + step)
      writeAdapter(root, id, seeded(100 + step))
    } else if (random(2) === 0 && held.length > 0) {
      held.splice(random(held.length), 1)[0]!.got.release()
    } else {
      const got = await acquireNow(id).catch((error: { code: string }) => error)
      if ('code' in got) assert.equal(got.code, 'adapter_limit')
      else held.push({ got, seed: seeds.get(id)! })
    }
    for (const { got, seed } of held) assert.deepEqual(vector(got), vectorOf(seed))
  }
  for (const { got } of held) got.release()
  // No memory was lost: three adapters fit at once again.
  await acquire('a', 'b', 'c')
  assert.equal(numResident(), 3)
})
