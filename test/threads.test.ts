// Tasks in threads of their own: order, progress, errors, and what happens when a thread dies.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { ServerError } from '../server/errors.ts'
import { runTasks } from '../server/threads/run-tasks.ts'
import { startThread, ThreadEnded } from '../server/threads/thread.ts'
import { within } from './support/deadline.ts'
import { type OddInput, oddTask } from './support/odd-task.ts'
import { createTempFolder } from './support/temp-folder.ts'

const patience = 30_000

const double = (...numbers: number[]): OddInput => ({
  kind: 'double',
  numbers: new Float32Array(numbers),
})

function createThread() {
  const thread = startThread(oddTask)
  return {
    run: (input: OddInput, onBytes?: (bytes: number) => void) =>
      within(patience, input.kind, thread.run(input, onBytes)),
    terminate: () => within(patience, 'end of the thread', thread.terminate()),
  }
}

describe('a thread', () => {
  it('answers each order, one after the other, with its own progress', async () => {
    const { run, terminate } = createThread()
    const told: string[] = []
    const slow: OddInput = { kind: 'double', numbers: new Float32Array([1, 2]), ms: 50 }
    const answers = await Promise.all([
      run(slow, (bytes) => told.push(`first ${bytes}`)),
      run(double(3), (bytes) => told.push(`second ${bytes}`)),
    ])
    assert.deepEqual(
      answers.map((numbers) => [...numbers]),
      [[2, 4], [6]],
    )
    assert.deepEqual(told, ['first 8', 'second 4'])
    await terminate()
  })

  it('an error for somebody keeps its code and field, any other its code and stack', async () => {
    const { run, terminate } = createThread()
    await assert.rejects(run({ kind: 'refuse' }), (error) => {
      assert.ok(error instanceof ServerError)
      assert.deepEqual([error.code, error.param], ['invalid_adapter', 'adapter'])
      return true
    })
    await assert.rejects(run({ kind: 'fail' }), (error: NodeJS.ErrnoException) => {
      assert.deepEqual([error.code, error.message], ['ENOSPC', 'no space'])
      assert.match(error.stack ?? '', /odd-task/)
      return true
    })
    assert.deepEqual([...(await run(double(1)))], [2])
    await terminate()
  })

  it('that ends fails its orders, and the next order starts another', async () => {
    const { run, terminate } = createThread()
    const orders = [run({ kind: 'hang' }), run(double(1))]
    const outcomes = Promise.allSettled(orders)
    await terminate()
    for (const outcome of await outcomes) {
      assert.ok(outcome.status === 'rejected' && outcome.reason instanceof ThreadEnded)
      assert.equal(outcome.reason.cause, undefined)
    }
    assert.deepEqual([...(await run(double(2)))], [4])
    await assert.rejects(run({ kind: 'exit' }), /odd-task\.[jt]s ended with code 3/)
    assert.deepEqual([...(await run(double(3)))], [6])
    await terminate()
  })

  it('that dies of an error says which', async () => {
    const { run, terminate } = createThread()
    await assert.rejects(run({ kind: 'throw outside' }), (error) => {
      assert.ok(error instanceof ThreadEnded)
      assert.equal((error.cause as Error).message, 'a bug')
      return true
    })
    assert.deepEqual([...(await run(double(1)))], [2])
    await terminate()
  })

  it('does not keep a process alive when it is idle, and does while it works', async () => {
    const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)
    const suffix = import.meta.url.slice(-3)
    const script = `
      const { startThread } = await import(${url(`../server/threads/thread${suffix}`)})
      const { oddTask } = await import(${url(`./support/odd-task${suffix}`)})
      const numbers = new Float32Array([4])
      startThread(oddTask).run({ kind: 'double', numbers, ms: 100 }).then((x) => console.log(x[0]))
    `
    const path = join(createTempFolder(), 'script.mjs')
    writeFileSync(path, script)
    const { stdout } = await promisify(execFile)(process.execPath, [path], { timeout: patience })
    assert.equal(stdout, '8\n')
  })
})

describe('a task on many inputs', () => {
  it('gives the outputs in the order of the inputs, and the bytes of all', async () => {
    let total = 0
    const inputs = [5, 4, 3, 2, 1].map((number): OddInput => {
      return { kind: 'double', numbers: new Float32Array([number]), ms: 10 * number }
    })
    const outputs = await within(
      patience,
      'outputs',
      runTasks(oddTask, inputs, { limit: 2, onBytes: (bytes) => (total += bytes) }),
    )
    assert.deepEqual(
      outputs.map(([number]) => number),
      [10, 8, 6, 4, 2],
    )
    assert.equal(total, 20)
  })

  it('nothing to do is done', async () => {
    assert.deepEqual(await runTasks(oddTask, [], { limit: 4, onBytes: () => {} }), [])
  })

  it('the first that fails ends the others, also those that would never end', async () => {
    const inputs: OddInput[] = [{ kind: 'hang' }, { kind: 'refuse' }, double(1), double(2)]
    let numDone = 0
    const all = runTasks(oddTask, inputs, { limit: 2, onBytes: () => numDone++ })
    await assert.rejects(within(patience, 'refusal', all), { code: 'invalid_adapter' })
    assert.equal(numDone, 0)
  })
})
