import assert from 'node:assert/strict'
import { it, mock } from 'node:test'
import { createIdleTimer } from '../server/engine/idle-timer.ts'

it('an idle timer does its task once, after the time since the last start, unless stopped', () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  try {
    let done = 0
    const idle = createIdleTimer(100)
    idle.start(() => done++)
    mock.timers.tick(60)
    idle.start(() => done++)
    mock.timers.tick(99)
    assert.equal(done, 0)
    mock.timers.tick(1)
    assert.equal(done, 1)
    idle.start(() => done++)
    idle.stop()
    mock.timers.tick(1000)
    assert.equal(done, 1)
  } finally {
    mock.timers.reset()
  }
})
