import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createProgress } from '../server/progress.ts'

function run(isTTY: boolean) {
  const written: string[] = []
  const logged: string[] = []
  const log = (_: object, message: string) => void logged.push(message)
  const logger = { debug: log, info: log, warn: log, error: log }
  let clock = 0
  const terminal = { isTTY, write: (text: string) => void written.push(text) }
  const report = createProgress({ terminal, logger, now: () => clock })
  for (let done = 0; done <= 40; done++) {
    report('converting', done, 40)
    clock += 1000
  }
  return { written, logged }
}

test('a terminal gets one bar, redrawn, with the time left, and a line end at the end', () => {
  const { written, logged } = run(true)
  assert.equal(logged.length, 0)
  assert.equal(written.filter((text) => text.includes('\n')).length, 1)
  assert.match(written[20] ?? '', /^\rconverting █{15}·{15} 50 %, 20 s left/)
  assert.match(written.at(-1) ?? '', /100 %, 0 s left.*\n$/)
})

test('elsewhere a line tells each tenth', () => {
  const { written, logged } = run(false)
  assert.equal(written.length, 0)
  assert.equal(logged.length, 10)
  assert.equal(logged.at(-1), 'converting: 100 %')
})
