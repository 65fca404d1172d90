// How strong an adapter runs: by the version that the store loads, whatever any list said before.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type ReadAdapter, readPeftAdapter } from '../server/adapters/peft.ts'
import { createAdapterStore } from '../server/adapters/store.ts'
import { decideStrengths } from '../server/adapters/strength.ts'
import type { AdapterFloor, AdapterRef } from '../server/contracts/adapter.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { within } from './support/deadline.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { smallModel, upTensors, writeAdapter } from './support/tensor-files.ts'

const patience = 30_000
const temp = createTempFolder()
let numRoots = 0

/** A store over a fresh folder; `strengths` are the adapters in it with their default strengths. */
function createWorld(strengths: Readonly<Record<string, number>>, read?: ReadAdapter) {
  const root = join(temp, `root-${++numRoots}`)
  mkdirSync(root)
  const write = (id: string, recommended_strength: number, seed = 1) =>
    writeAdapter(root, id, {
      tensors: upTensors({ seed }),
      manifest: { recommended_strength },
    })
  for (const [id, strength] of Object.entries(strengths)) write(id, strength)
  const store = createAdapterStore({
    root,
    modelConfig: smallModel,
    sites: new Set(['up_proj']),
    maxBytes: 2 ** 20,
    maxRankPerRow: 4,
    ...(read ? { read } : {}),
  })
  return {
    store,
    write,
    /** Id → strength with which it runs. */
    async run(adapters: readonly AdapterRef[], required: readonly AdapterFloor[] = []) {
      const held = await within(patience, 'adapters', store.acquire({ adapters, required }))
      const strengths = new Set(held.components.map(({ scale }) => scale))
      for (const { scale } of held.applied) assert.ok(strengths.has(scale), 'it runs as it says')
      held.release()
      return Object.fromEntries(held.applied.map(({ id, scale }) => [id, scale]))
    },
  }
}

const silent = (id: string): AdapterRef[] => [{ id, scale: null }]
const floorOf = (
  id: string,
  minScale: number | null,
  namedIn: string | null = 'adapter',
): readonly AdapterFloor[] => [{ id, minScale, namedIn, by: 'flags' }]

describe('strengths of a request', () => {
  it('the default strength is that of the version on disk, not of an older list', async () => {
    const { store, write, run } = createWorld({ a: 0.5 })
    assert.equal((await store.list())[0]!.defaultScale, 0.5)
    write('a', 2)
    assert.deepEqual(await run(silent('a')), { a: 2 })
    // A resident version does not outlive its folder's state either.
    write('a', 1)
    assert.deepEqual(await run(silent('a')), { a: 1 })
  })

  it('a manifest that changes while the adapter is read counts as it is then', async () => {
    let writeMeanwhile = () => {}
    const { write, run } = createWorld({ a: 0.5 }, async (folder, options) => {
      const adapter = await readPeftAdapter(folder, options)
      writeMeanwhile()
      writeMeanwhile = () => {}
      return adapter
    })
    writeMeanwhile = () => void write('a', 2)
    assert.deepEqual(await run(silent('a')), { a: 2 })
  })

  it('without an explicit minimum it is the default strength of the version that is loaded', async () => {
    const { store, write, run } = createWorld({ a: 0.5 })
    const required = floorOf('a', null)
    assert.equal((await store.list())[0]!.defaultScale, 0.5)
    assert.deepEqual(await run([{ id: 'a', scale: 0.6 }], required), { a: 0.6 })
    write('a', 2)
    const refused = { code: 'adapter_required', param: 'adapter', message: /strength 2 or more/ }
    await assert.rejects(run([{ id: 'a', scale: 0.6 }], required), refused)
    assert.deepEqual(await run(silent('a'), required), { a: 2 })
    assert.deepEqual(await run([{ id: 'a', scale: 2 }], required), { a: 2 })
  })

  it('a version that another request made resident meanwhile sets the minimum, too', async () => {
    const gate = createDeferred<void>()
    const isReading = createDeferred<void>()
    const { write, run } = createWorld({ a: 0.5, b: 1 }, async (folder, options) => {
      if (folder.id === 'b') {
        isReading.resolve()
        await gate.promise
      }
      return readPeftAdapter(folder, options)
    })
    // It has read a at strength 0.5 and waits for b; a newer a comes into memory before it goes on.
    const weak = [
      { id: 'a', scale: 0.6 },
      { id: 'b', scale: null },
    ]
    const asking = assert.rejects(run(weak, floorOf('a', null)), { code: 'adapter_required' })
    await within(patience, 'read of b', isReading.promise)
    write('a', 2, 9)
    assert.deepEqual(await run(silent('a')), { a: 2 })
    gate.resolve()
    await asking
  })

  it('a request that is refused holds nothing', async () => {
    const { store, run } = createWorld({ a: 1 })
    await assert.rejects(run([{ id: 'a', scale: 0.1 }], floorOf('a', null)), {
      code: 'adapter_required',
    })
    assert.equal(store.usedBytes, 0)
  })

  it('a request without the required adapter is refused before anything is read', async () => {
    let numReads = 0
    const { run } = createWorld({ a: 1, b: 1 }, (folder, options) => {
      numReads++
      return readPeftAdapter(folder, options)
    })
    for (const refs of [[], silent('b')]) {
      await assert.rejects(run(refs, floorOf('a', null, 'model')), {
        code: 'adapter_required',
        param: 'model',
        message: /"a" at its default strength or more/,
      })
    }
    assert.equal(numReads, 0)
  })
})

describe('the minimum of the required adapter', () => {
  const strengths = [null, 0, 0.5, 1, 2, 4]

  it('holds whatever the request, the default and the minimum say', () => {
    for (const defaultScale of [0, 0.5, 1, 2]) {
      for (const minScale of strengths) {
        for (const scale of strengths) {
          for (const namedIn of ['adapter', null]) {
            const min = minScale ?? defaultScale
            const decide = () =>
              decideStrengths(
                {
                  adapters: [
                    { id: 'other', scale: 0 },
                    { id: 'a', scale },
                  ],
                  required: floorOf('a', minScale, namedIn),
                },
                [1, defaultScale],
              )
            if (scale !== null && scale < min && namedIn !== null) {
              assert.throws(decide, { code: 'adapter_required', param: namedIn })
              continue
            }
            const [other, strength] = decide()
            assert.equal(other, 0)
            assert.equal(strength, Math.max(scale ?? defaultScale, min))
          }
        }
      }
    }
  })

  it('of two minima of one adapter the higher holds, and its owner is named', () => {
    const both = (minScale: number | null, ofKey: number | null, namedIn: string | null) => [
      { id: 'a', minScale, namedIn, by: 'flags' } as const,
      { id: 'a', minScale: ofKey, namedIn, by: 'key' } as const,
    ]
    for (const minScale of strengths) {
      for (const ofKey of strengths) {
        const least = Math.max(minScale ?? 1, ofKey ?? 1)
        const decide = (scale: number | null, namedIn: string | null) =>
          decideStrengths(
            { adapters: [{ id: 'a', scale }], required: both(minScale, ofKey, namedIn) },
            [1],
          )
        assert.deepEqual(decide(null, 'adapter'), [Math.max(1, least)])
        assert.deepEqual(decide(4, 'adapter'), [4])
        assert.deepEqual(decide(0, null), [least])
        if (least === 0) continue
        const where = (ofKey ?? 1) > (minScale ?? 1) ? /--keys-file/ : /--require-adapter/
        assert.throws(() => decide(least / 2, 'adapter'), {
          code: 'adapter_required',
          message: where,
        })
      }
    }
  })

  it('each of two required adapters must act', () => {
    const required = [
      ...floorOf('a', 0.5),
      { id: 'b', minScale: null, namedIn: 'adapter', by: 'key' as const },
    ]
    const ref = (id: string, scale: number | null = null) => ({ id, scale })
    const decide = (...adapters: AdapterRef[]) =>
      decideStrengths(
        { adapters, required },
        adapters.map(() => 1),
      )
    assert.deepEqual(decide(ref('a'), ref('b')), [1, 1])
    for (const adapters of [[ref('a')], [ref('b')], [], [ref('a'), ref('b', 0.9)]]) {
      assert.throws(() => decide(...adapters), { code: 'adapter_required' })
    }
    const inThought = { ...ref('b'), span: 'thought' } as const
    assert.throws(() => decide(ref('a'), inThought), { code: 'adapter_required' })
  })
})
