// What is written for an upstream: our own strict reader finds in it the very updates that a row runs with.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { findAdapterFolder } from '../server/adapters/adapter-folder.ts'
import { readPeftAdapter } from '../server/adapters/peft.ts'
import type { ScaledRankOne } from '../server/contracts/adapter.ts'
import { type LinearModule, linearModules } from '../server/contracts/checkpoint.ts'
import { type AdapterSet, nameOfSet } from '../server/upstream/adapter-content.ts'
import { createAdapterFolders, openAdaptersDir } from '../server/upstream/adapter-folders.ts'
import { createSlots } from '../server/upstream/slots.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { loraTensors, smallModel, upTensors, writeAdapter } from './support/tensor-files.ts'

const dir = createTempFolder()
const source = join(dir, 'adapters')
const served = new Set(linearModules)

async function readFrom(root: string, id: string) {
  const folder = findAdapterFolder(root, id)
  assert.ok(folder, id)
  return readPeftAdapter(folder, { model: smallModel, maxRank: 16, served })
}

/** ΔW of one module, [outer × inner]; zeros where nothing changes it. */
function deltaOf(components: readonly ScaledRankOne[], layer: number, module: LinearModule) {
  const sum = new Map<string, number>()
  for (const { component, scale } of components) {
    const update = component.find((one) => one.layer === layer && one.module === module)
    if (update === undefined) continue
    for (const [row, b] of update.b.entries()) {
      for (const [column, a] of update.a.entries()) {
        const place = `${row} ${column}`
        sum.set(place, (sum.get(place) ?? 0) + scale * b * a)
      }
    }
  }
  return sum
}

writeAdapter(source, 'up', {
  config: { lora_alpha: 3 },
  tensors: upTensors({ seed: 3, layers: [0, 1, 2] }),
})
const modules = ['q_proj', 'up_proj', 'down_proj'] as const
writeAdapter(source, 'wide', {
  config: { r: 2, lora_alpha: 4, target_modules: modules },
  tensors: loraTensors({ rank: 2, layers: [0, 1, 2], modules, seed: 4, model: smallModel }),
})

async function setOf(scales: Readonly<Record<string, number>>): Promise<AdapterSet> {
  const sets = await Promise.all(
    Object.entries(scales).map(async ([id, scale]) => {
      const { digest, components } = await readFrom(source, id)
      return {
        applied: { id, digest, scale },
        components: components.map((component) => ({ component, scale })),
      }
    }),
  )
  return {
    applied: sets.map(({ applied }) => applied),
    components: sets.flatMap(({ components }) => components),
  }
}

describe('a folder for an upstream', () => {
  for (const scales of [{ up: 0.5 }, { wide: 1.25 }, { up: 0.5, wide: 2 }, { up: 0, wide: 1 }]) {
    it(`holds the sum of ${JSON.stringify(scales)}`, async () => {
      const shared = join(dir, 'shared')
      await openAdaptersDir(shared)
      const set = await setOf(scales)
      const path = await createAdapterFolders(shared).pathOf(set)
      const name = nameOfSet(set)!
      assert.equal(path, join(shared, name))
      // Our names of adapters have no @ and no +: the reader gets the folder by itself.
      const again = await readPeftAdapter(
        { id: 'written', path, root: shared },
        { model: smallModel, maxRank: 16, served },
      )
      const written = again.components.map((component) => ({ component, scale: 1 }))
      for (let layer = 0; layer < smallModel.numLayers; layer++) {
        for (const module of linearModules) {
          const want = deltaOf(set.components, layer, module)
          const got = deltaOf(written, layer, module)
          for (const [place, value] of want) {
            const found = got.get(place) ?? 0
            assert.ok(Math.abs(found - value) <= 1e-5 * Math.max(1, Math.abs(value)), place)
          }
          const isThere = [...want.values()].some((value) => value !== 0)
          assert.equal(
            [...got.values()].some((value) => value !== 0),
            isThere,
          )
        }
      }
    })
  }

  it('is written once, by however many ask at once', async () => {
    const shared = join(dir, 'once')
    await openAdaptersDir(shared)
    const set = await setOf({ up: 1 })
    const folders = [createAdapterFolders(shared), createAdapterFolders(shared)]
    const paths = await Promise.all([0, 1, 2, 3].map((i) => folders[i % 2]!.pathOf(set)))
    assert.equal(new Set(paths).size, 1)
    assert.deepEqual(readdirSync(shared), [nameOfSet(set)])
  })
})

describe('adapter slots of an upstream', () => {
  const never = new AbortController().signal

  it('the least recently used name that nobody holds leaves', async () => {
    const left: string[] = []
    const slots = createSlots(
      () => 2,
      (name) => left.push(name),
    )
    for (const name of ['a', 'b', 'a']) (await slots.hold(name, never)).release()
    await slots.hold('c', never)
    assert.deepEqual(left, ['b'])
    assert.deepEqual(slots.names(), ['a', 'c'])
  })

  it('a retired name leaves at once, or with the last that holds it, or stays where it is held anew', async () => {
    const left: string[] = []
    const slots = createSlots(
      () => 3,
      (name) => left.push(name),
    )
    ;(await slots.hold('idle', never)).release()
    const users = [await slots.hold('used', never), await slots.hold('used', never)]
    const other = await slots.hold('again', never)
    slots.retire(() => true)
    assert.deepEqual(left, ['idle'])
    users[0]!.release()
    assert.deepEqual(left, ['idle'])
    users[1]!.release()
    assert.deepEqual(left, ['idle', 'used'])
    ;(await slots.hold('again', never)).release()
    other.release()
    assert.deepEqual(left, ['idle', 'used'])
    assert.deepEqual(slots.names(), ['again'])
  })

  it('who finds none waits in line; who gives up is passed over', async () => {
    const slots = createSlots(
      () => 1,
      () => {},
    )
    const first = await slots.hold('a', never)
    const leaves = new AbortController()
    const order: string[] = []
    const gone = slots.hold('b', leaves.signal).catch(() => order.push('gone'))
    const take = async (name: string) => {
      const held = await slots.hold(name, never)
      order.push(name)
      held.release()
    }
    const others = [take('c'), take('a')]
    leaves.abort()
    await gone
    first.release()
    first.release()
    await Promise.all(others)
    assert.deepEqual(order, ['gone', 'c', 'a'])
    assert.equal(slots.numWaiting, 0)
  })
})
