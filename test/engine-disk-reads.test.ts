// A slow disk is progress, a call that hangs is none.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createVitalSigns } from '../server/engine-client/vital-signs.ts'
import { createReadProgress, readStorageBytes } from '../server/heart/disk-reads.ts'

const counters = 'rchar: 7\nwchar: 8\nread_bytes: 4096\nwrite_bytes: 12\ncancelled_write_bytes: 0\n'

test('bytes from storage are read, and not told where the system does not', () => {
  assert.equal(
    readStorageBytes(() => counters),
    4096,
  )
  assert.equal(
    readStorageBytes(() => undefined),
    null,
  )
  if (process.platform === 'linux') assert.equal(typeof readStorageBytes(), 'number')
})

test('a weight that loads at any pace never hangs; one whose bytes stop does after 10 s', () => {
  const vital = createVitalSigns({ unresponsiveMs: 3000, silenceMs: 10_000, hangMs: 10_000 })
  let bytes: number | null = 0
  const progress = createReadProgress(() => bytes)
  function beat(): void {
    const phase = 'loading the weights'
    vital.beat({ turns: 1, progress: progress(), phase, allowanceMs: 0, starvedMs: 0 })
    vital.advance(500)
  }
  for (let ms = 0; ms < 600_000; ms += 500) {
    bytes = ms
    beat()
    assert.equal(vital.findHang(false), null)
  }
  for (let ms = 0; ms < 9000; ms += 500) beat()
  assert.equal(vital.findHang(false), null)
  for (let ms = 0; ms < 2000; ms += 500) beat()
  assert.match(vital.findHang(false) ?? '', /no progress for .* loading the weights/)
})

test('nothing is learned where nothing is told', () => {
  const progress = createReadProgress(() => null)
  assert.deepEqual([progress(), progress()], [0, 0])
})
