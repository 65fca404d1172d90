// The KV cache follows use: it grows, gives memory back, and where it is full the youngest sequence
// starts again later. None of it changes a token.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { KvShape } from '../server/loop/kv-shape.ts'
import { firstShape, fits, shapeFor } from '../server/loop/kv-shape.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import { createRequest, createTestLoop, numbered, textOf } from './support/scripted-model.ts'

describe('the shape of the cache', () => {
  const limits = { maxRows: 8, maxCapacity: 131_072, maxPositions: 140_000 }

  it('begins small', () => {
    assert.deepEqual(firstShape(limits), { rows: 4, capacity: 512 })
    assert.deepEqual(firstShape({ ...limits, maxRows: 2 }), { rows: 2, capacity: 512 })
    assert.deepEqual(firstShape({ ...limits, maxPositions: 600 }), { rows: 1, capacity: 512 })
    assert.deepEqual(firstShape({ ...limits, maxCapacity: 64 }), { rows: 4, capacity: 64 })
  })

  it('gives one row the whole context where eight such rows would not fit', () => {
    const present = firstShape(limits)
    assert.ok(fits({ rows: 1, capacity: 131_072 }, limits))
    assert.ok(!fits({ rows: 2, capacity: 131_072 }, limits))
    const shape = shapeFor({ rows: 1, capacity: 131_072 }, present, limits)
    assert.deepEqual(shape, { rows: 1, capacity: 131_072 })
  })

  it('grows in powers of two, holds what is needed and stays within its positions: random needs', () => {
    const random = createRandomNumbers(3)
    for (let history = 0; history < 200; history++) {
      const limits = {
        maxRows: 1 + pick(random, 16),
        maxCapacity: 16 + pick(random, 5000),
        maxPositions: 5016 + pick(random, 40_000),
      }
      let shape = firstShape(limits)
      let numChanges = 0
      for (let step = 0; step < 50; step++) {
        const need = {
          rows: 1 + pick(random, limits.maxRows),
          capacity: 1 + pick(random, limits.maxCapacity),
        }
        if (!fits(need, limits)) continue
        const next = shapeFor(need, shape, limits)
        assert.ok(next.rows >= need.rows && next.capacity >= need.capacity)
        assert.ok(fits(next, limits), JSON.stringify({ next, limits }))
        if (next !== shape) numChanges++
        shape = next
      }
      assert.ok(numChanges <= 50)
    }
    // Growing by one position at a time moves the cache a few times only.
    const wide = { maxRows: 1, maxCapacity: 100_000, maxPositions: 100_000 }
    let shape = firstShape(wide)
    let numChanges = 0
    for (let capacity = 1; capacity <= 100_000; capacity++) {
      const next = shapeFor({ rows: 1, capacity }, shape, wide)
      if (next !== shape) numChanges++
      shape = next
    }
    assert.equal(numChanges, 8)
  })
})

describe('the loop in little memory', () => {
  const text = (prompt: string) => ({ kind: 'text', text: prompt }) as const

  /** Runs a crowd of random requests and returns what each choice said. */
  async function runCrowd(kvPositions: number, seed: number) {
    const random = createRandomNumbers(seed)
    const shapes: KvShape[] = []
    let numRestores = 0
    let numDecoded = 0
    const world = createTestLoop({
      rows: 4,
      capacity: 600,
      maxChunk: 32,
      kvPositions,
      wrap: (runner) => ({
        ...runner,
        reshape: (shape, lengths) => {
          shapes.push(shape)
          runner.reshape(shape, lengths)
        },
        decode: (batch) => {
          numDecoded += batch.length
          return runner.decode(batch)
        },
        restorePositions: (saved, row, start) => {
          numRestores++
          runner.restorePositions(saved, row, start)
        },
      }),
    })
    const ids = Array.from({ length: 12 }, (_, i) => `r${i}`)
    for (const [i, id] of ids.entries()) {
      const prompt = text(`${i % 3}`.repeat(1 + pick(random, 200)))
      const components = i % 2 === 0 ? [] : [{ component: numbered(1), scale: 1 }]
      const maxTokens = 1 + pick(random, 390)
      const sampling = { temperature: 1, seed: BigInt(i) }
      world.submit(createRequest({ id, prompt, maxTokens, sampling, n: 1 + (i % 2) }), {
        components,
      })
    }
    const texts: string[] = []
    for (const id of ids) {
      const events = await world.ended(id)
      assert.equal(events.at(-1)?.kind, 'done')
      texts.push(textOf(events), textOf(events, { index: 1 }))
    }
    return { texts, shapes, numRestores, numDecoded, stats: world.loop.stats() }
  }

  it('says the same as with room for all, also for those that had to start again', async () => {
    let numRestores = 0
    let numRepeated = 0
    for (let seed = 0; seed < 3; seed++) {
      const ample = await runCrowd(20_000, seed)
      for (const kvPositions of [600, 900, 1300]) {
        const tight = await runCrowd(kvPositions, seed)
        assert.deepEqual(tight.texts, ample.texts, `${kvPositions} positions, seed ${seed}`)
        assert.equal(tight.stats.running + tight.stats.waiting + tight.stats.kvUsage, 0)
        for (const shape of tight.shapes) assert.ok(shape.rows * shape.capacity <= kvPositions)
        numRestores += tight.numRestores
        numRepeated += tight.numDecoded - ample.numDecoded
      }
    }
    assert.ok(numRestores > 0, 'nothing was ever taken from saved blocks')
    assert.ok(numRepeated > 0, 'nobody ever had to start again')
  })

  it('grows while a sequence does, and shrinks when nothing has run for a while', async () => {
    const shapes: KvShape[] = []
    const timer: Array<() => void> = []
    const world = createTestLoop({
      rows: 4,
      capacity: 4096,
      maxChunk: 32,
      idle: { start: (task) => timer.push(task), stop: () => timer.splice(0) },
      wrap: (runner) => ({
        ...runner,
        reshape: (shape, lengths) => {
          shapes.push(shape)
          runner.reshape(shape, lengths)
        },
      }),
    })
    const capacities = () => shapes.map(({ capacity }) => capacity)
    world.submit(createRequest({ id: 'a', prompt: text('x'.repeat(400)), maxTokens: 800 }))
    await world.ended('a')
    world.submit(createRequest({ id: 'b', prompt: text('y'.repeat(400)), maxTokens: 800 }))
    await world.ended('b')
    assert.deepEqual(capacities(), [1024, 2048])
    assert.equal(timer.length, 1, 'what runs stops the timer')
    timer[0]?.()
    assert.deepEqual(capacities(), [1024, 2048, 512])
  })

  it('grows in parts while the others run, and lets nobody in before it is done', async () => {
    const requests = Array.from({ length: 8 }, (_, i) =>
      createRequest({ id: `r${i}`, prompt: text(`${i}`.repeat(20 * i + 60)), maxTokens: 700 }),
    )

    async function run(numParts: number) {
      const told: string[] = []
      let numMoved = 0
      const world = createTestLoop({
        rows: 8,
        capacity: 2048,
        maxChunk: 32,
        wrap: (runner) => ({
          ...runner,
          reshape: (shape, lengths) => {
            told.push(`at once, ${lengths.length} rows`)
            runner.reshape(shape, lengths)
          },
          ...(numParts > 0 && {
            reshapePart: (shape, lengths) => {
              told.push('part')
              if (++numMoved < numParts) return false
              numMoved = 0
              told.push(`${shape.rows} × ${shape.capacity}`)
              runner.reshape(shape, lengths)
              return true
            },
          }),
          decode: (batch) => {
            if (told.at(-1) !== 'step') told.push('step')
            return runner.decode(batch)
          },
        }),
      })
      for (const request of requests) world.submit(request)
      const texts: string[] = []
      for (const { id } of requests) texts.push(textOf(await world.ended(id)))
      return { told, texts }
    }

    const whole = await run(0)
    const { told, texts } = await run(6)
    assert.deepEqual(texts, whole.texts)
    // With no row it shrinks.
    const moves = (list: readonly string[]) => list.filter((what) => /once, [1-9]/.test(what))
    assert.ok(moves(whole.told).length > 0, 'nothing ever grew')
    assert.deepEqual(moves(told), [])
    assert.deepEqual(
      told.filter((what) => what.includes('×')),
      ['8 × 512', '8 × 1024'],
    )
    // Every part but the first of a growth comes after a step of those that run.
    const gaps = told.flatMap((what, i) => (what === 'part' && told[i - 1] === 'part' ? [i] : []))
    assert.deepEqual(gaps, [])
  })

  it('runs a sequence of the whole context beside short ones, one after the other', async () => {
    const world = createTestLoop({ rows: 4, capacity: 600, maxChunk: 32, kvPositions: 700 })
    world.submit(createRequest({ id: 'short', prompt: text('abc'), maxTokens: 300 }))
    world.submit(createRequest({ id: 'long', prompt: text('x'.repeat(500)), maxTokens: 100 }))
    world.submit(createRequest({ id: 'later', prompt: text('abd'), maxTokens: 30 }))
    for (const id of ['short', 'long', 'later']) {
      assert.equal((await world.ended(id)).at(-1)?.kind, 'done')
    }
  })

  it('takes a long beginning over in pieces, with decode steps of others between', async () => {
    const pieces: number[] = []
    const world = createTestLoop({
      rows: 2,
      capacity: 600,
      maxChunk: 32,
      kvPositions: 5000,
      wrap: (runner) => ({
        ...runner,
        // So large that 64 MiB are 64 positions.
        positionBytes: 1 << 20,
        savePositions: (row, start, count) => {
          return { ...runner.savePositions(row, start, count), bytes: count << 20 }
        },
        restorePositions: (saved, row, start) => {
          pieces.push(start)
          runner.restorePositions(saved, row, start)
        },
        decode: (batch) => {
          pieces.push(-1)
          return runner.decode(batch)
        },
      }),
    })
    const prompt = text('once upon a time '.repeat(20))
    world.submit(createRequest({ id: 'first', prompt, maxTokens: 2 }))
    const first = await world.ended('first')
    pieces.length = 0
    world.submit(createRequest({ id: 'other', prompt: text('hello'), maxTokens: 50 }))
    world.submit(createRequest({ id: 'second', prompt, maxTokens: 2 }))
    assert.equal(textOf(await world.ended('second')), textOf(first))
    const runs = pieces
      .join()
      .split('-1')
      .map((run) => run.split(',').filter(Boolean).length)
    assert.ok(Math.max(...runs) <= 4, `blocks between two steps: ${runs}`)
    assert.ok(runs.filter((count) => count === 4).length >= 4, `${runs}`)
    await world.ended('other')
  })
})
