// The list of a large adapters folder: in pages, by name, and read again when the folder changed.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, rmSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createFolderIndex, indexAfter } from '../server/adapters/folder-index.ts'
import { surveyBases } from '../server/adapters/folder-survey.ts'
import { createAdapterStore } from '../server/adapters/store.ts'
import type { AdapterQuery, AdapterSummary } from '../server/contracts/adapter.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { smallModel, writeAdapter } from './support/tensor-files.ts'

const temp = createTempFolder()
let numRoots = 0

function newRoot(): string {
  const root = join(temp, String(++numRoots))
  mkdirSync(root)
  return root
}

/** As if it was last changed so long ago. */
function age(root: string, seconds: number): void {
  const time = Date.now() / 1000 - seconds
  utimesSync(root, time, time)
}

test('pages begin after a name, whether or not it is there', async () => {
  const root = newRoot()
  for (const id of ['b', 'd', 'f']) writeAdapter(root, id)
  mkdirSync(join(root, 'c c'))
  const store = createAdapterStore({
    root,
    modelConfig: smallModel,
    sites: new Set(['up_proj']),
    maxBytes: 1e6,
    maxRankPerRow: 4,
  })
  const idsOf = async (query?: AdapterQuery) => (await store.list(query)).map(({ id }) => id)
  assert.deepEqual(await idsOf(), ['b', 'c c', 'd', 'f'])
  assert.deepEqual(await idsOf({ limit: 2 }), ['b', 'c c'])
  assert.deepEqual(await idsOf({ after: 'b', limit: 2 }), ['c c', 'd'])
  assert.deepEqual(await idsOf({ after: 'c', limit: 1 }), ['c c'])
  assert.deepEqual(await idsOf({ after: 'f' }), [])
  assert.deepEqual(await idsOf({ limit: 0 }), [])
  assert.deepEqual(await idsOf({ ids: ['f', 'x', '../f', 'c c', 'b'] }), ['f', 'b'])
})

test('the folder is read again only when its stamp moved, or is young', async () => {
  const root = newRoot()
  for (const id of ['a', 'b']) mkdirSync(join(root, id))
  const index = createFolderIndex(root)
  let numReads = 0
  const read = async () => (await index.read(() => numReads++)).map(({ id }) => id)
  age(root, 0)
  await read()
  assert.deepEqual(await read(), ['a', 'b'])
  assert.equal(numReads, 2)
  age(root, 60)
  await read()
  assert.deepEqual(await read(), ['a', 'b'])
  assert.equal(numReads, 3)
  mkdirSync(join(root, 'c'))
  assert.deepEqual(await read(), ['a', 'b', 'c'])
  // A change that leaves the old time: the inode's own time moved.
  rmSync(join(root, 'a'), { recursive: true })
  age(root, 60)
  assert.deepEqual(await read(), ['b', 'c'])
  rmSync(root, { recursive: true })
  assert.deepEqual(await read(), [])
})

test('where a page begins is found for every name', () => {
  const entries = readdirSync(join(import.meta.dirname, '..', 'server'))
    .sort()
    .map((id) => ({ id, find: null }))
  for (const name of ['', '\u0000', 'zzz', ...entries.map(({ id }) => id)]) {
    const expected = entries.filter(({ id }) => id <= name).length
    assert.equal(indexAfter(entries, name), expected, name)
  }
  assert.equal(indexAfter(entries, undefined), 0)
})

const otherBases = (...ids: string[]) =>
  Array.from({ length: 300 }, (_, i) => String(i + 1000)).map((id) => ({
    id,
    state: ids.includes(id) ? 'other_base' : 'available',
  })) as AdapterSummary[]

/** The line that the operator gets, over a clock that goes so many milliseconds a page. */
function survey(summaries: readonly AdapterSummary[], pageMs: number) {
  let nowMs = 0
  const list = async ({ after = '', limit }: AdapterQuery) => {
    nowMs += pageMs
    return summaries.filter(({ id }) => id > after).slice(0, limit)
  }
  return surveyBases(list, { now: () => nowMs, onPage: () => {} })
}

test('the start tells in one line which adapters are for another base, if any', async () => {
  assert.equal(await survey(otherBases(), 0), null)
  assert.match((await survey(otherBases('1299'), 0))!, /^1 adapter is for another base.* "1299"; /)
  assert.match(
    (await survey(otherBases('1000', '1250'), 0))!,
    /^2 adapters are for another base, and not served: "1000", "1250"; GET/,
  )
})

test('a start does not wait for a folder that takes too long to look at', async () => {
  const notice = await survey(otherBases('1000', '1250'), 5000)
  assert.match(notice!, /^At least 1 adapter is for another base/)
})

test('thousands of names are read and sorted in slices: others have the event loop between', async () => {
  const root = newRoot()
  // In an order of their own, so that every slice has names of all places.
  const ids = Array.from({ length: 3001 }, (_, i) => `a${(i * 1009) % 3001}`)
  for (const id of ids) mkdirSync(join(root, id))
  let numTurns = 0
  let isOver = false
  const count = () => {
    numTurns++
    if (!isOver) setImmediate(count)
  }
  setImmediate(count)
  const turnsOfSlices: number[] = []
  const onSlice = () => turnsOfSlices.push(numTurns)
  const entries = await createFolderIndex(root).read(() => {}, onSlice)
  isOver = true
  assert.deepEqual(
    entries.map(({ id }) => id),
    ids.sort(),
  )
  // Of 3,001 names 2 slices end while they are read, 2 while sorted, and 2 and 2 while merged.
  assert.equal(turnsOfSlices.length, 8)
  assert.equal(new Set(turnsOfSlices).size, 8, 'a turn of the event loop between two slices')
})
