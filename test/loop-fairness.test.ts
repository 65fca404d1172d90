// Turns between clients over the real loop and a scripted model: what gives way says the same as alone,
// bit for bit, with memory for saved blocks and without.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { chaotic, createRequest, createTestLoop, textOf } from './support/scripted-model.ts'

const capacity = 512
const long = (id: string, client: string) =>
  createRequest({
    id,
    turn: { client, request: id },
    prompt: { kind: 'text', text: `${id} says` },
    maxTokens: 400,
    sampling: { ignoreEos: true, temperature: 1, seed: BigInt(id.length) },
  })

async function alone(id: string): Promise<string> {
  const world = createTestLoop({ capacity, logits: chaotic })
  world.submit(long(id, 'a'))
  return textOf(await world.ended(id))
}

describe('clients that share a loop', () => {
  for (const prefixPositions of [0, 4096]) {
    it(`say what they say alone, while they take rows from each other; ${prefixPositions} saved positions`, async () => {
      let numPrefills = 0
      let numRestored = 0
      const world = createTestLoop({
        rows: 2,
        capacity,
        prefixPositions,
        beforeRun: ({ kind }) => {
          if (kind === 'prefill') numPrefills++
        },
        wrap: (runner) => {
          const restorePositions: typeof runner.restorePositions = (...args) => {
            numRestored++
            runner.restorePositions(...args)
          }
          return Object.assign(Object.create(runner), { restorePositions })
        },
      })
      const ids = ['a1', 'a2', 'a3', 'b1', 'b22', 'c1']
      for (const id of ids) world.submit(long(id, id[0]!))
      for (const id of ids) {
        assert.equal(textOf(await world.ended(id)), await alone(id), id)
        assert.equal(world.events(id).at(-1)?.kind, 'done')
        assert.equal(world.numReleases(id), 1)
      }
      // Each prompt has two chunks: more of them are prompts computed again, where none is copied.
      const numAgain = numPrefills - 2 * ids.length + numRestored
      assert.ok(numAgain > 0, 'nobody gave way')
    })
  }

  it('one token is said long before the long requests of another end', async () => {
    const world = createTestLoop({ rows: 2, capacity })
    for (let i = 0; i < 10; i++) world.submit(long(`long ${i}`, 'greedy'))
    const turn = { client: 'other', request: 'small' }
    world.submit(createRequest({ id: 'small', turn, maxTokens: 1 }))
    await world.ended('small')
    for (let i = 0; i < 10; i++) assert.ok(world.events(`long ${i}`).at(-1)?.kind !== 'done')
    for (let i = 0; i < 10; i++) await world.ended(`long ${i}`)
  })
})

it('a stream that gives way to a short reply of its client goes on right after it', async () => {
  const streams = ['a', 'bb']
  const small = Array.from({ length: 12 }, (_, i) => `small ${i}`)
  let numRuns = 0
  let longest = 0
  const last = new Map<string, { numEvents: number; run: number }>()
  function look(id: string): void {
    const numEvents = world.events(id).length
    const before = last.get(id) ?? { numEvents: 0, run: numRuns }
    if (before.numEvents === numEvents) return
    if (before.numEvents > 0) longest = Math.max(longest, numRuns - before.run)
    last.set(id, { numEvents, run: numRuns })
  }
  const world = createTestLoop({
    rows: 2,
    capacity,
    maxChunk: 16,
    prefixPositions: 4096,
    beforeRun() {
      numRuns++
      for (const id of streams) look(id)
      // The first tokens of both are there.
      if (numRuns === 50) for (const id of small) submitSmall(id)
    },
  })
  function submitSmall(id: string): void {
    world.submit(createRequest({ id, turn: { client: 'a', request: id }, maxTokens: 8 }))
  }
  for (const id of streams) world.submit(long(id, 'a'))
  for (const id of streams) assert.equal(textOf(await world.ended(id)), await alone(id), id)
  const numEarly = small.filter((id) => world.events(id).at(-1)?.kind === 'done').length
  assert.ok(numEarly >= 4, `${numEarly} short replies before a stream of 400 ended`)
  // The reply, and what of a saved block is computed again.
  assert.ok(longest <= 32, `${longest} runs without a token`)
  for (const id of small) await world.ended(id)
})
