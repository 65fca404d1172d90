// Reading adapters in a thread of its own gives what reading them here gives, errors too.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { findAdapterFolder } from '../server/adapters/adapter-folder.ts'
import { readPeftAdapter, UnservedModules } from '../server/adapters/peft.ts'
import { createAdapterReader } from '../server/adapters/reader.ts'
import { within } from './support/deadline.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { loraTensors, smallModel, upTensors, writeAdapter } from './support/tensor-files.ts'

const patience = 30_000
const root = createTempFolder()
const reader = createAdapterReader()
after(() => reader.close())

const modules = ['q_proj', 'up_proj'] as const
const options = { model: smallModel, maxRank: 4, served: new Set(modules) }
const folder = (id: string) => findAdapterFolder(root, id)!
const read = (id: string) => within(patience, `read of ${id}`, reader.read(folder(id), options))

test('the same adapter comes from the thread as from here', async () => {
  const tensors = loraTensors({ rank: 3, layers: [0, 2], modules, seed: 4, model: smallModel })
  writeAdapter(root, 'two', { config: { r: 3 }, tensors, manifest: { description: 'both' } })
  const fromThread = await read('two')
  assert.deepEqual(fromThread, await readPeftAdapter(folder('two'), options))
  assert.equal(fromThread.components.length, 3)
})

test('many at once come each to its caller, wrong ones beside right ones', async () => {
  const seeds = [1, 2, 3, 4, 5, 6]
  for (const seed of seeds) writeAdapter(root, `a${seed}`, { tensors: upTensors({ seed }) })
  writeAdapter(root, 'bad', { tensors: Buffer.alloc(3) })
  const results = await Promise.allSettled(seeds.flatMap((seed) => [read(`a${seed}`), read('bad')]))
  for (const [i, result] of results.entries()) {
    if (i % 2 === 1) {
      assert.ok(result.status === 'rejected')
      assert.equal(result.reason.code, 'invalid_adapter')
      continue
    }
    assert.ok(result.status === 'fulfilled')
    const wanted = await readPeftAdapter(folder(`a${seeds[i / 2]}`), options)
    assert.deepEqual(result.value, wanted)
  }
})

test('a refusal for want of a module says which', async () => {
  const tensors = loraTensors({
    rank: 1,
    layers: [1],
    modules: ['o_proj', 'up_proj'],
    seed: 1,
    model: smallModel,
  })
  writeAdapter(root, 'wide', { tensors })
  await assert.rejects(read('wide'), (error) => {
    assert.ok(error instanceof UnservedModules)
    assert.deepEqual([error.modules, error.served], [['o_proj'], modules])
    return true
  })
})

test('after it was closed it reads again, and what was waited for is refused', async () => {
  const other = createAdapterReader()
  const waiting = assert.rejects(other.read(folder('two'), options), { code: 'server_error' })
  await other.close()
  await within(patience, 'refusal', waiting)
  assert.equal((await within(patience, 'read', other.read(folder('two'), options))).id, 'two')
  await other.close()
})
