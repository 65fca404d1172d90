// A promise, or what stands for it where it takes too long.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep, setImmediate as tick } from 'node:timers/promises'
import { unlessLate } from '../server/deadline.ts'

const never = new Promise<never>(() => {})
const hourMs = 3_600_000

describe('a deadline', () => {
  it('gives what the work gives in time, and what it rejects with', async () => {
    const onLate = () => assert.fail('it was not late')
    assert.equal(await unlessLate(hourMs, sleep(1, 'done'), onLate), 'done')
    const failing = sleep(1).then(() => Promise.reject(new Error('broken')))
    await assert.rejects(unlessLate(hourMs, failing, onLate), /broken/)
  })

  it('keeps no timer once the work has ended', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    let numLate = 0
    await unlessLate(1000, Promise.resolve(), () => numLate++)
    t.mock.timers.tick(2000)
    await tick()
    assert.equal(numLate, 0)
  })

  it('gives what stands for work that is late, or throws it', async () => {
    assert.equal(await unlessLate(1, never, () => 'late'), 'late')
    const refuse = () => {
      throw new Error('too late')
    }
    await assert.rejects(unlessLate(1, never, refuse), /too late/)
    await assert.rejects(
      unlessLate(1, never, () => Promise.reject(new Error('later still'))),
      /later still/,
    )
  })

  it('work that rejects after its time ends no process', async () => {
    let fail = (_: Error) => {}
    const work = new Promise<never>((_, reject) => {
      fail = reject
    })
    assert.equal(await unlessLate(1, work, () => null), null)
    // An unhandled rejection would fail this test's process.
    fail(new Error('nobody hears this'))
    await tick()
  })
})
