// The scheduler, by hand and by generation: a thousand random histories over a simulated cache.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { chunkEnd } from '../server/loop/prefill-turn.ts'
import type { RowMove } from '../server/loop/rows.ts'
import { createScheduler, type Step } from '../server/loop/scheduler.ts'
import type { Sequence } from '../server/loop/sequence.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import { createRequest, createTestSequence } from './support/scripted-model.ts'

const newSequence = (id: string, promptLength: number, client = 'client', maxTokens = 16) =>
  createTestSequence(createRequest({ id, turn: { client, request: id }, maxTokens }), {
    promptTokens: Array.from({ length: promptLength }, (_, i) => i + 1),
  })

describe('the chunks of a prompt', () => {
  it('cover it, leave no lone token, and begin at even positions: every length and size', () => {
    for (let length = 1; length < 200; length++) {
      for (const maxChunk of [2, 3, 4, 5, 16, 17, 40, 64, 512]) {
        const ends: number[] = []
        for (let from = 0; from < length; from = ends.at(-1) ?? length) {
          const to = chunkEnd(from, length, maxChunk)
          assert.ok(to > from && to - from <= maxChunk, `${from}–${to} of ${length}`)
          ends.push(to)
        }
        assert.equal(ends.at(-1), length)
        const sizes = ends.map((end, i) => end - (ends[i - 1] ?? 0))
        const what = `${length} in chunks of ${maxChunk}: ${sizes}`
        if (length > 1 && maxChunk > 2) assert.ok(Math.min(...sizes) >= 2, what)
        if (maxChunk >= 16)
          assert.ok(
            ends.slice(0, -1).every((end) => end % 2 === 0),
            what,
          )
      }
    }
  })
})

describe('the scheduler', () => {
  it('has nothing to do at first and after its last sequence', () => {
    const scheduler = createScheduler({ rows: 2, maxChunk: 4 })
    assert.equal(scheduler.schedule(), null)
    const only = newSequence('a', 3)
    scheduler.add(only)
    scheduler.remove(only)
    assert.equal(scheduler.schedule(), null)
    assert.equal(scheduler.numWaiting + scheduler.numRunning, 0)
  })

  it('prefills a long prompt in chunks, with a decode step of the others between', () => {
    const scheduler = createScheduler({ rows: 2, maxChunk: 4 })
    const [a, b] = [newSequence('a', 3), newSequence('b', 10)]
    scheduler.add(a)
    scheduler.add(b)
    const kinds: string[] = []
    for (let i = 0; i < 7; i++) {
      const step = scheduler.schedule()
      if (step === null || step.kind === 'copy' || step.kind === 'verdict') break
      if (step.kind === 'decode') {
        kinds.push(`decode ${step.sequences.map(({ request }) => request.id).join('')}`)
        continue
      }
      kinds.push(`prefill ${step.sequence.request.id} ${step.from}–${step.to} in ${step.row}`)
      step.sequence.advance(step.to)
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

  it('fits several short prompts in one turn, so that they do not each cost a decode step', () => {
    const scheduler = createScheduler({ rows: 4, maxChunk: 64, prefillBudget: () => 48 })
    const sequences = [3, 10, 12, 30].map((length, i) => newSequence('abcd'[i] ?? '', length))
    for (const sequence of sequences) scheduler.add(sequence)
    const kinds: string[] = []
    for (let i = 0; i < 6; i++) {
      const step = scheduler.schedule()
      if (step?.kind === 'prefill') {
        step.sequence.advance(step.to)
        if (step.to === step.sequence.promptTokens.length) scheduler.finishPrefill()
        kinds.push(`prefill ${step.sequence.request.id} to ${step.to}`)
      } else kinds.push(step?.kind ?? '')
    }
    const first = ['prefill a to 3', 'prefill b to 10', 'prefill c to 12', 'decode']
    // Each counts as 16 at least, and nothing is left of the turn for the last prompt.
    assert.deepEqual(kinds, [...first, 'prefill d to 30', 'decode'])
  })

  it('gives a copy as much of a turn as its share of the longest copy', () => {
    const match = (sequence: Sequence) => {
      const from = sequence.numComputed
      const to = Math.min(sequence.promptTokens.length - 10, from + 100)
      return sequence.mayReuse && to > from ? { from, to, copyTo: () => {} } : null
    }
    const options = { rows: 4, maxChunk: 64, maxCopy: 100, prefillBudget: () => 40, match }
    const scheduler = createScheduler(options)
    const kinds: string[] = []
    // The first prompt has nobody to wait for; two full copies and a quarter of one come after it.
    for (const sequence of [newSequence('a', 30), newSequence('b', 235)]) scheduler.add(sequence)
    while (kinds.length < 9) {
      const step = scheduler.schedule()
      if (step?.kind === 'copy') {
        step.sequence.reuse(step.hit.to)
        kinds.push(`copy ${step.sequence.request.id} to ${step.hit.to}`)
      } else if (step?.kind === 'prefill') {
        step.sequence.advance(step.to)
        if (step.to === step.sequence.promptTokens.length) scheduler.finishPrefill()
        kinds.push(`prefill ${step.sequence.request.id} to ${step.to}`)
      } else kinds.push(step?.kind ?? '')
    }
    assert.deepEqual(kinds, [
      'copy a to 20',
      'prefill a to 30',
      'decode',
      'copy b to 100',
      'decode',
      'copy b to 200',
      'decode',
      'copy b to 225',
      'prefill b to 235',
    ])
  })

  it('does not let anybody overtake one that waits for memory', () => {
    let room = 1
    const tryAdmit = (_: Sequence, running: readonly Sequence[]) => running.length < room
    const scheduler = createScheduler({ rows: 4, maxChunk: 64, tryAdmit })
    for (const id of ['a', 'b', 'c']) scheduler.add(newSequence(id, 3))
    scheduler.schedule()
    scheduler.finishPrefill()
    scheduler.schedule()
    assert.equal(scheduler.schedule()?.kind, 'decode')
    assert.equal(scheduler.numRunning, 1)
    room = 2
    const step = scheduler.schedule()
    assert.ok(step?.kind === 'prefill' && step.sequence.request.id === 'b')
  })

  it('lets the youngest give up its row, and admits it before all that came later', () => {
    const scheduler = createScheduler({ rows: 2, maxChunk: 64 })
    for (const id of ['a', 'b', 'c']) scheduler.add(newSequence(id, 3))
    for (let i = 0; i < 2; i++) {
      while (scheduler.schedule()?.kind !== 'prefill');
      scheduler.finishPrefill()
    }
    const youngest = scheduler.youngest() as Sequence
    assert.equal(youngest.request.id, 'b')
    assert.deepEqual(scheduler.preempt(youngest), [])
    assert.deepEqual(
      scheduler.waiting().map(({ request }) => request.id),
      ['b', 'c'],
    )
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
function createWorld(options: {
  rows: number
  maxChunk: number
  seed: number
  numClients: number
}) {
  const { rows, maxChunk, seed, numClients } = options
  const random = createRandomNumbers(seed)
  /** Rows there is memory for, and prompt tokens a turn may have: both change all the time. */
  let room = rows
  let turn = maxChunk
  const maxCopy = 2 * maxChunk
  const scheduler = createScheduler({
    rows,
    maxChunk,
    prefillBudget: () => turn,
    tryAdmit: (_, running) => running.length === 0 || running.length < room,
    maxCopy,
    match: (sequence) => {
      const from = sequence.numComputed
      const left = sequence.promptTokens.length - 1 - from
      if (!sequence.mayReuse || left < 1 || random() < 0.4) return null
      const to = from + 1 + pick(random, Math.min(left, maxCopy))
      return {
        from,
        to,
        copyTo(row) {
          cache[row]?.splice(from, Number.POSITIVE_INFINITY)
          for (let i = from; i < to; i++) cache[row]?.push(entry(sequence, i))
        },
      }
    },
  })
  const cache: string[][] = Array.from({ length: rows }, () => [])
  const live = new Map<string, Sequence>()
  /** Prompt tokens that were computed while others waited to decode, since the last decode step. */
  let budgetUsed = 0
  let stepNumber = 0
  let numAdded = 0
  let numCopies = 0

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
  }

  function move({ from, to, length }: RowMove): void {
    assert.ok(from > to && from < rows, `move ${from} → ${to}`)
    cache[to] = (cache[from] ?? []).slice(0, length)
    cache[from] = ['stale']
  }

  function take(sequence: Sequence): void {
    live.delete(sequence.request.id)
    for (const rowMove of scheduler.remove(sequence)) move(rowMove)
  }

  function run(step: Step): void {
    stepNumber++
    if (step.kind === 'copy') {
      const { sequence, row, hit } = step
      assert.equal(hit.from, sequence.numComputed)
      assert.equal(row, scheduler.numRunning - 1, 'a copy goes to the row after the decoding')
      checkRow(sequence, row)
      hit.copyTo(row)
      sequence.reuse(hit.to)
      numCopies++
      return
    }
    if (step.kind === 'prefill') {
      const { sequence, row, from, to } = step
      if (scheduler.numRunning > 1) budgetUsed += to - from
      assert.ok(budgetUsed <= maxChunk, `${budgetUsed} prompt tokens in one turn`)
      assert.ok(to > from && to - from <= maxChunk)
      assert.equal(from, sequence.numComputed)
      assert.equal(row, scheduler.numRunning - 1, 'prefill is not in the row after the decoding')
      checkRow(sequence, row)
      const rowCache = cache[row] ?? []
      rowCache.splice(from, Number.POSITIVE_INFINITY)
      for (let i = from; i < to; i++) rowCache.push(entry(sequence, i))
      sequence.advance(to)
      if (to === sequence.promptTokens.length) {
        scheduler.finishPrefill()
        if (random() < 0.2) take(sequence)
      }
      return
    }
    assert.ok(step.sequences.length > 0)
    budgetUsed = 0
    for (const [row, sequence] of step.sequences.entries()) {
      checkRow(sequence, row)
      assert.equal(sequence.numComputed >= sequence.promptTokens.length, true)
      cache[row]?.splice(sequence.numComputed, Number.POSITIVE_INFINITY)
      cache[row]?.push(entry(sequence, sequence.numComputed))
    }
    // As in the loop: every row counts before the first is taken out.
    for (const sequence of step.sequences) sequence.advance(sequence.numComputed + 1)
    for (const sequence of step.sequences) if (random() < 0.15) take(sequence)
  }

  return {
    random,
    live,
    checkInvariants,
    get numCopies() {
      return numCopies
    },
    add() {
      const id = `s${numAdded++}`
      const client = `c${pick(random, numClients)}`
      const sequence = newSequence(id, 1 + pick(random, 3 * maxChunk), client)
      live.set(id, sequence)
      scheduler.add(sequence)
    },
    cancelOne() {
      const sequences = [...live.values()]
      const sequence = sequences[pick(random, sequences.length)]
      if (sequence !== undefined) take(sequence)
    },
    /** Memory comes and goes: who came last starts again. */
    changeRoom() {
      room = 1 + pick(random, rows)
      turn = 1 + pick(random, maxChunk)
      while (scheduler.numRunning > room) {
        const youngest = scheduler.youngest() as Sequence
        for (const rowMove of scheduler.preempt(youngest)) move(rowMove)
        youngest.preempt()
      }
    },
    /** False when there was nothing to do. */
    step(): boolean {
      const yielding = scheduler.yielding()
      if (yielding !== undefined) {
        assert.ok(scheduler.numWaiting > 0, 'somebody gives way to nobody')
        for (const rowMove of scheduler.giveWay(yielding)) move(rowMove)
        yielding.preempt()
      }
      const step = scheduler.schedule()
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
      let numCopies = 0
      for (let seed = 0; seed < 250; seed++) {
        const numClients = 1 + (seed % 3)
        const maxChunk = 1 + (seed % 5)
        const world = createWorld({ rows, maxChunk, seed: seed * 10 + rows, numClients })
        for (let action = 0; action < 80; action++) {
          const choice = world.random()
          if (choice < 0.25) world.add()
          else if (choice < 0.32) world.cancelOne()
          else if (choice < 0.36) world.changeRoom()
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
        numCopies += world.numCopies
      }
      assert.ok(numCopies > 100, `only ${numCopies} copies`)
    })
  }
})

/**
 * What the loop does, with a model that says one token a step for each row. Sequences say as many
 * tokens as they may; a step costs one unit of time, however many rows it has.
 */
function createFairWorld(options: { rows: number; seed?: number; room?: () => number }) {
  const { rows, room = () => rows } = options
  const scheduler = createScheduler({
    rows,
    maxChunk: 512,
    prefillBudget: () => 64,
    tryAdmit: (_, running) => running.length === 0 || running.length < room(),
  })
  const ended = new Map<string, number>()
  const firstTokenAt = new Map<string, number>()
  /** Tokens said by each client. */
  const said = new Map<string, number>()
  /** When each said its last token, and the most steps between two of them. */
  const lastTokenAt = new Map<string, number>()
  const longestGap = new Map<string, number>()
  let numSteps = 0
  let numYields = 0
  const nothingLikely = new Float32Array(260).fill(0)
  nothingLikely[65] = 50

  function say(sequence: Sequence): void {
    const { id, turn } = sequence.request
    if (!firstTokenAt.has(id)) firstTokenAt.set(id, numSteps)
    said.set(turn.client, (said.get(turn.client) ?? 0) + 1)
    const gap = numSteps - (lastTokenAt.get(id) ?? numSteps)
    longestGap.set(id, Math.max(gap, longestGap.get(id) ?? 0))
    lastTokenAt.set(id, numSteps)
    sequence.accept(nothingLikely)
    if (!sequence.isFinished) return
    ended.set(id, numSteps)
    scheduler.remove(sequence)
  }

  return {
    scheduler,
    ended,
    firstTokenAt,
    said,
    longestGap,
    get numSteps() {
      return numSteps
    },
    get numYields() {
      return numYields
    },
    add(id: string, client: string, promptLength: number, maxTokens: number, request = id): void {
      const turn = { client, request }
      const promptTokens = Array.from({ length: promptLength }, (_, i) => i + 1)
      const sequence = createTestSequence(createRequest({ id, turn, maxTokens }), { promptTokens })
      scheduler.add(sequence)
    },
    /** False when there was nothing to do. */
    step(): boolean {
      const yielding = scheduler.yielding()
      if (yielding !== undefined) {
        scheduler.giveWay(yielding)
        yielding.preempt()
        numYields++
      }
      const step = scheduler.schedule()
      if (step === null) return false
      numSteps++
      if (step.kind === 'copy') assert.fail('there is nothing to copy')
      if (step.kind === 'prefill') {
        const { sequence } = step
        sequence.advance(step.to)
        if (step.to < sequence.promptTokens.length) return true
        scheduler.finishPrefill()
        if (!sequence.isRecomputing) say(sequence)
        return true
      }
      for (const sequence of step.sequences) {
        sequence.advance(sequence.numComputed + 1)
        if (!sequence.isRecomputing) say(sequence)
      }
      return true
    },
  }
}

describe('fairness between clients', () => {
  const rows = 8

  /** Steps from now until the first token of a request for one token. */
  function waitOf(world: ReturnType<typeof createFairWorld>, client: string): number {
    const from = world.numSteps
    world.add('small', client, 8, 1)
    while (!world.ended.has('small')) assert.ok(world.step())
    return world.ended.get('small')! - from
  }

  /** A prompt's turn, then a lead of 256 tokens at 8 a step, with some prompts between. */
  const soon = 64

  it('gives one token to another soon, whatever one client has begun and sent', () => {
    const loads: Record<string, (world: ReturnType<typeof createFairWorld>) => void> = {
      '60 prompts of 16 choices in one request': (world) => {
        for (let i = 0; i < 960; i++) world.add(`many ${i}`, 'greedy', 4, 16, 'many')
      },
      '8 long streams': (world) => {
        for (let i = 0; i < 8; i++) world.add(`long ${i}`, 'greedy', 4, 5000)
      },
      '200 long streams': (world) => {
        for (let i = 0; i < 200; i++) world.add(`long ${i}`, 'greedy', 4, 5000)
      },
      '200 short ones': (world) => {
        for (let i = 0; i < 200; i++) world.add(`short ${i}`, 'greedy', 4, 4)
      },
      'long prompts': (world) => {
        for (let i = 0; i < 50; i++) world.add(`prompt ${i}`, 'greedy', 2000, 1)
      },
    }
    for (const [name, load] of Object.entries(loads)) {
      // Its own request comes before its larger ones, and after those of its size.
      for (const client of name === '200 short ones' ? ['other'] : ['other', 'greedy']) {
        const world = createFairWorld({ rows })
        load(world)
        for (let i = 0; i < 50; i++) world.step()
        const wait = waitOf(world, client)
        assert.ok(wait <= soon, `${name}, asked by the ${client} one: ${wait} steps`)
      }
    }
  })

  it('keeps a stream going beside any other one request of its client', () => {
    const others: Record<string, (world: ReturnType<typeof createFairWorld>) => void> = {
      '60 prompts of 16 choices': (world) => {
        for (let i = 0; i < 960; i++) world.add(`other ${i}`, 'client', 4, 16, 'other')
      },
      '900 prompts for one token': (world) => {
        for (let i = 0; i < 900; i++) world.add(`other ${i}`, 'client', 4, 1, 'other')
      },
      '128 prompts of 500 tokens': (world) => {
        for (let i = 0; i < 128; i++) world.add(`other ${i}`, 'client', 500, 1, 'other')
      },
      '16 long choices': (world) => {
        for (let i = 0; i < 16; i++) world.add(`other ${i}`, 'client', 4, 1000, 'other')
      },
    }
    const gaps = Object.entries(others).map(([name, send]) => {
      const world = createFairWorld({ rows })
      world.add('stream', 'client', 8, 1500)
      for (let i = 0; i < 50; i++) world.step()
      send(world)
      while (!world.ended.has('stream')) assert.ok(world.step())
      return [name, world.longestGap.get('stream')!] as const
    })
    for (const [name, gap] of gaps) assert.ok(gap <= 5, `${name}: ${gap} steps`)
  })

  it('is in tokens: two clients that always wait are served alike, whatever they send', () => {
    const world = createFairWorld({ rows })
    for (let i = 0; i < 40; i++) world.add(`long ${i}`, 'long', 10, 1000)
    for (let i = 0; i < 4000; i++) world.add(`short ${i}`, 'short', 1, 9)
    for (let i = 0; i < 2000; i++) world.step()
    const [long, short] = [world.said.get('long')!, world.said.get('short')!]
    assert.ok(long > 0.7 * short && short > 0.6 * long, `${long} tokens to ${short}`)
  })

  it('lets small work of one client overtake its large work, and not for ever', () => {
    const world = createFairWorld({ rows: 1 })
    world.add('first', 'client', 4, 40)
    world.add('large', 'client', 4, 100)
    let numSmall = 0
    // There is always another small one.
    while (!world.ended.has('large')) {
      if (world.scheduler.numWaiting < 3) world.add(`small ${numSmall++}`, 'client', 4, 10)
      assert.ok(world.step())
      assert.ok(world.numSteps < 5000, 'the large one waits for ever')
    }
    assert.ok(numSmall > 20, `only ${numSmall} small ones overtook it`)
  })

  it('costs nothing where one client sends requests of one kind: first come, first served', () => {
    const world = createFairWorld({ rows })
    for (let i = 0; i < 64; i++) world.add(`${i}`, 'client', 20, 300)
    while (world.step());
    assert.equal(world.numYields, 0)
    const starts = [...world.firstTokenAt].sort(([, x], [, y]) => x - y).map(([id]) => Number(id))
    assert.deepEqual(
      starts,
      [...starts].sort((x, y) => x - y),
    )
  })

  it('every sequence ends, however clients come and memory goes: 100 random histories', () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = createRandomNumbers(seed)
      let room = 4
      const world = createFairWorld({ rows: 4, room: () => room })
      let numAdded = 0
      for (let i = 0; i < 300; i++) {
        if (random() < 0.1) room = 1 + pick(random, 4)
        if (random() < 0.15) {
          const [prompt, most] = [1 + pick(random, 400), 1 + pick(random, 300)]
          world.add(`${numAdded++}`, `c${pick(random, 3)}`, prompt, most)
        }
        world.step()
      }
      const bound = 40 * (numAdded + 1) * 400
      while (world.step()) assert.ok(world.numSteps < bound, `not idle after ${bound} steps`)
      assert.equal(world.ended.size, numAdded)
    }
  })
})
