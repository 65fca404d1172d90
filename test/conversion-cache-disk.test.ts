// What the file system says of the cache folder, as the operator hears it: always the flag to change.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { explainDiskError } from '../server/conversion/cache-disk.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()

function errorOf(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  return assert.fail('it worked')
}

const nowhere = join(temp, 'dangling')
symlinkSync(join(temp, 'nowhere'), nowhere)
const loop = join(temp, 'loop')
symlinkSync(loop, loop)
const file = join(temp, 'file')
writeFileSync(file, '')
const inside = join(temp, 'cache')
mkdirSync(inside)
symlinkSync(join(temp, 'nowhere'), join(inside, 'weights.bin'))

for (const [title, dir, path] of [
  ['a link that leads nowhere', nowhere, nowhere],
  ['a link to itself', loop, loop],
  ['a file', file, join(file, 'x')],
] as const) {
  test(`${title} is the cache folder’s fault`, () => {
    const error = errorOf(() => mkdirSync(path, { recursive: true }))
    const told = explainDiskError(error, dir, 1) as Error & { code: string }
    assert.equal(told.code, 'invalid_config')
    assert.match(told.message, /^--cache-dir must be a folder/)
  })
}

test('a link in the cache that leads nowhere is the cache’s, a file that is missing elsewhere is not', () => {
  const own = errorOf(() => readFileSync(join(inside, 'weights.bin')))
  assert.match((explainDiskError(own, inside, 1) as Error).message, /^--cache-dir/)
  const other = errorOf(() => readFileSync(join(temp, 'config.json')))
  assert.equal(explainDiskError(other, inside, 1), other)
})
