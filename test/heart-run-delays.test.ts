// What a process lacked on a busy machine, from what Linux counts of each thread.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { createStarvation, readRunDelays } from '../server/heart/run-delays.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()

describe('time in line for a processor', () => {
  it('is read of each thread; one that has ended and what is no such file are left out', () => {
    const tasks = mkdtempSync(join(temp, 'tasks-'))
    const counters = { '10': '5000000 2500000 7\n', '11': '1 0 1\n', '12': 'nothing', '13': null }
    for (const [id, text] of Object.entries(counters)) {
      mkdirSync(join(tasks, id))
      if (text !== null) writeFileSync(join(tasks, id, 'schedstat'), text)
    }
    const expected = new Map([
      ['10', 2.5],
      ['11', 0],
    ])
    assert.deepEqual(readRunDelays(tasks), expected)
    assert.equal(readRunDelays(join(tasks, 'none')), null)
    if (process.platform === 'linux') assert.ok(readRunDelays()?.has(String(process.pid)))
  })

  it('is that of the thread that waited longest, and no longer than the time that went by', () => {
    let now = 0
    let delays: ReadonlyMap<string, number> | null = new Map([['1', 1000]])
    const starvedMs = createStarvation(
      () => delays,
      () => now,
    )
    const at = (ms: number, next: Record<string, number> | null) => {
      now = ms
      delays = next && new Map(Object.entries(next))
      return starvedMs()
    }
    assert.equal(at(500, { '1': 1000 }), 0)
    assert.equal(at(1000, { '1': 1100, '2': 9000 }), 100)
    assert.equal(at(1500, { '1': 1150, '2': 9300 }), 400)
    assert.equal(at(2000, { '1': 9150, '2': 9300 }), 900)
    assert.equal(at(2500, null), 900)
    assert.equal(at(3000, { '1': 9999 }), 900)
  })
})
