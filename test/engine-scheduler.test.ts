// The scheduler, by hand and by generation: a thousand random histories over a simulated cache.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createScheduler, type RowMove, type Step } from '../server/engine/scheduler.ts'
import type { Sequence } from '../server/engine/sequence.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import { createRequest, createTestSequence } from './support/scripted-model.ts'

const newSequence = (id: string, promptLength: number): Sequence =>
  createTestSequence(createRequest({ id }), {
    promptTokens: Array.from({ length: promptLength }, (_, i) => i + 1),
  })

describe('the scheduler', () => {
  it('has nothing to do at first and after its last sequence', () => {
    const scheduler = createScheduler({ rows: 2, maxChunk: 4 })
    assert.equal(scheduler.next(), null)
    const only = newSequence('a', 3)
    scheduler.add(only)
    scheduler.remove(only)
    assert.equal(scheduler.next(), null)
    assert.equal(scheduler.numWaiting + scheduler.numRunning, 0)
  })

  it('prefills a long prompt in chunks, with a decode step of the others between', () => {
    const scheduler = createScheduler({ rows: 2, maxChunk: 4 })
    const [a, b] = [newSequence('a', 3), newSequence('b', 10)]
    scheduler.add(a)
    scheduler.add(b)
    const kinds: string[] = []
    for (let i = 0; i < 7; i++) {
      const step = scheduler.next()
      if (step === null) break
      if (step.kind === 'decode') {
        kinds.push(`decode ${step.sequences.map(({ request }) => request.id).join('')}`)
        continue
      }
      kinds.push(`prefill ${step.sequence.request.id} ${step.from}–${step.to} in ${step.row}`)
      step.sequence.numComputed = step.to
      if (step.to === step.sequence.promptTokens.length) scheduler.finishPrefill()
    }
    assert.deepEqual(kinds, [
      'prefill a 0–3 in 0',
      'decode a',
      'prefill b 0–4 in 1',
      'decode a',
      'prefill b 4–8 in 1',
      'decode a',
      'prefill b 8–10 in 1',
    ])
  })

  it('ignores a sequence it does not have, and one that was removed before', () => {
    const scheduler = createScheduler({ rows: 2, maxChunk: 4 })
    const a = newSequence('a', 3)
    assert.deepEqual(scheduler.remove(a), [])
    scheduler.add(a)
    assert.deepEqual(scheduler.remove(a), [])
    assert.deepEqual(scheduler.remove(a), [])
  })
})

/**
 * Drives a scheduler as the loop does. The simulated cache holds, per row, whose position each entry
 * is; every step checks that what it is about to read is there.
 */
function createWorld(options: { rows: number; maxChunk: number; seed: number }) {
  const { rows, maxChunk, seed } = options
  const random = createRandomNumbers(seed)
  const scheduler = createScheduler({ rows, maxChunk })
  const cache: string[][] = Array.from({ length: rows }, () => [])
  const live = new Map<string, Sequence>()
  const order: string[] = []
  const started: string[] = []
  const lastDecoded = new Map<string, number>()
  let stepNumber = 0
  let numAdded = 0

  const entry = ({ request }: Sequence, position: number) => `${request.id}:${position}`

  function checkRow(sequence: Sequence, row: number): void {
    const want = Array.from({ length: sequence.numComputed }, (_, i) => entry(sequence, i))
    assert.deepEqual(cache[row]?.slice(0, want.length), want, `row ${row}, step ${stepNumber}`)
  }

  function checkInvariants(): void {
    const running = scheduler.running()
    const waiting = scheduler.waiting()
    assert.ok(running.length <= rows, `${running.length} running in ${rows} rows`)
    assert.equal(scheduler.numRunning, running.length)
    const ids = [...running, ...waiting].map(({ request }) => request.id).sort()
    assert.deepEqual(ids, [...live.keys()].sort(), 'a sequence was lost or is held twice')
    for (const [row, sequence] of running.entries()) checkRow(sequence, row)
    // Only the last of those with a row may be unready to decode.
    const unready = running.filter((s) => s.numComputed < s.promptTokens.length)
    assert.ok(unready.length <= 1 && (unready[0] ?? running.at(-1)) === running.at(-1))
    assert.deepEqual(
      waiting.map(({ request }) => request.id),
      order.filter((id) => live.has(id) && !started.includes(id) && !isRunning(id)),
      'waiting is not in order of arrival',
    )
  }

  const isRunning = (id: string) => scheduler.running().some(({ request }) => request.id === id)

  function move({ from, to, length }: RowMove): void {
    assert.ok(from > to && from < rows, `move ${from} → ${to}`)
    cache[to] = (cache[from] ?? []).slice(0, length)
    cache[from] = ['stale']
  }

  function take(sequence: Sequence): void {
    live.delete(sequence.request.id)
    lastDecoded.delete(sequence.request.id)
    for (const rowMove of scheduler.remove(sequence)) move(rowMove)
  }

  function run(step: Step): void {
    stepNumber++
    if (step.kind === 'prefill') {
      const { sequence, row, from, to } = step
      if (from === 0) started.push(sequence.request.id)
      assert.ok(to > from && to - from <= maxChunk)
      assert.equal(from, sequence.numComputed)
      assert.equal(row, scheduler.numRunning - 1, 'prefill is not in the row after the decoding')
      checkRow(sequence, row)
      const rowCache = cache[row] ?? []
      rowCache.splice(from, Number.POSITIVE_INFINITY)
      for (let i = from; i < to; i++) rowCache.push(entry(sequence, i))
      sequence.numComputed = to
      if (to === sequence.promptTokens.length) {
        scheduler.finishPrefill()
        lastDecoded.set(sequence.request.id, stepNumber)
        if (random() < 0.2) take(sequence)
      }
      return
    }
    assert.ok(step.sequences.length > 0)
    for (const [row, sequence] of step.sequences.entries()) {
      checkRow(sequence, row)
      assert.equal(sequence.numComputed >= sequence.promptTokens.length, true)
      cache[row]?.splice(sequence.numComputed, Number.POSITIVE_INFINITY)
      cache[row]?.push(entry(sequence, sequence.numComputed))
      const { id } = sequence.request
      const waited = stepNumber - (lastDecoded.get(id) ?? stepNumber)
      assert.ok(waited <= 2, `${id} waited ${waited} steps between two tokens`)
      lastDecoded.set(id, stepNumber)
    }
    // As in the loop: every row counts before the first is taken out.
    for (const sequence of step.sequences) sequence.numComputed++
    for (const sequence of step.sequences) if (random() < 0.15) take(sequence)
  }

  return {
    random,
    live,
    checkInvariants,
    get order() {
      return order
    },
    get started() {
      return started
    },
    add() {
      const id = `s${numAdded++}`
      const sequence = newSequence(id, 1 + pick(random, 3 * maxChunk))
      live.set(id, sequence)
      order.push(id)
      scheduler.add(sequence)
    },
    cancelOne() {
      const sequences = [...live.values()]
      const sequence = sequences[pick(random, sequences.length)]
      if (sequence !== undefined) take(sequence)
    },
    /** False when there was nothing to do. */
    step(): boolean {
      const step = scheduler.next()
      if (step === null) {
        assert.equal(live.size, 0, 'idle although sequences are there')
        return false
      }
      run(step)
      return true
    },
  }
}

describe('the scheduler over random histories', () => {
  for (const rows of [1, 2, 3, 8]) {
    it(`loses nothing, keeps every cache row and starves nobody: ${rows} rows`, () => {
      for (let seed = 0; seed < 250; seed++) {
        const world = createWorld({ rows, maxChunk: 1 + (seed % 5), seed: seed * 10 + rows })
        for (let action = 0; action < 80; action++) {
          const choice = world.random()
          if (choice < 0.25) world.add()
          else if (choice < 0.32) world.cancelOne()
          else world.step()
          world.checkInvariants()
        }
        // Nothing new comes: all that is left ends, in bounded time.
        const bound = 2000
        let steps = 0
        while (world.step()) {
          world.checkInvariants()
          assert.ok(++steps < bound, `not idle after ${bound} steps`)
        }
        assert.equal(world.live.size, 0)
        const arrival = world.order.filter((id) => world.started.includes(id))
        assert.deepEqual(world.started, arrival, 'not first come, first served')
      }
    })
  }
})
