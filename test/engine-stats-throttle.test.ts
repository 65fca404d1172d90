// When the front is told what the engine does.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EngineStats } from '../server/contracts/engine.ts'
import { createStatsThrottle } from '../server/engine/stats-throttle.ts'

const idle: EngineStats = {
  running: 0,
  waiting: 0,
  kvUsage: 0,
  runningAdapters: [],
  waitingAdapters: [],
  residentAdapters: 0,
  residentAdapterBytes: 0,
  pinnedAdapters: 0,
}

test('a change of who runs or waits is told at once, the use of the cache now and then', () => {
  const told: EngineStats[] = []
  let ms = 0
  const report = createStatsThrottle(
    (stats) => told.push(stats),
    () => ms,
  )
  const at = (time: number, stats: Partial<EngineStats>) => {
    ms = time
    const before = told.length
    report({ ...idle, ...stats })
    return told.length > before
  }
  assert.equal(at(0, { running: 1, kvUsage: 0.1 }), true)
  assert.equal(at(10, { running: 1, kvUsage: 0.2 }), false)
  assert.equal(at(20, { running: 2, kvUsage: 0.3 }), true)
  assert.equal(at(30, { running: 2, kvUsage: 0.3, runningAdapters: ['a'] }), true)
  assert.equal(at(200, { running: 2, kvUsage: 0.4, runningAdapters: ['a'] }), false)
  assert.equal(at(290, { running: 2, kvUsage: 0.5, runningAdapters: ['a'] }), true)
  assert.equal(at(300, {}), true)
})
