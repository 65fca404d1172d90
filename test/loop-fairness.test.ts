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
