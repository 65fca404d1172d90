// The environment of the engine process.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withHugePages } from '../server/engine-client/huge-pages.ts'

test('huge pages are asked for beside what is set, unless the operator has decided', () => {
  const wanted = 'glibc.malloc.hugetlb=1'
  assert.deepEqual(withHugePages({ A: 'b' }), { A: 'b', GLIBC_TUNABLES: wanted })
  const other = 'glibc.malloc.arena_max=2'
  assert.equal(withHugePages({ GLIBC_TUNABLES: other }).GLIBC_TUNABLES, `${other}:${wanted}`)
  const decided = { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=0' }
  assert.equal(withHugePages(decided), decided)
})
