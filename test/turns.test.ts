// Whose turn it is: between clients by what was done for them, within a client by due marks.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createTurns } from '../server/turns/turns.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'

interface Item {
  readonly name: string
}

function createWorld(stretch = 4) {
  const turns = createTurns<Item>({ stretch })
  return {
    turns,
    add(name: string, client: string, cost: number, request = name): Item {
      const item = { name }
      turns.add(item, { client, request }, cost)
      return item
    },
    /** Serves the first in turn to its end. */
    serve(cost: number, mayCome?: (client: string) => boolean): string | undefined {
      const item = turns.first(mayCome)
      if (item === undefined) return undefined
      turns.take(item)
      turns.charge(item, cost)
      turns.remove(item)
      return item.name
    },
  }
}

describe('turns', () => {
  it('equal requests of one client come in their order', () => {
    const { add, serve } = createWorld()
    for (const name of ['a', 'b', 'c']) add(name, 'client', 10)
    assert.deepEqual([serve(10), serve(10), serve(10), serve(10)], ['a', 'b', 'c', undefined])
  })

  it('clients alternate by what was done for them, not by how many requests they have', () => {
    const world = createWorld()
    for (let i = 0; i < 6; i++) world.add(`a${i}`, 'a', 10)
    for (let i = 0; i < 2; i++) world.add(`b${i}`, 'b', 30)
    const costs = (name: string | undefined) => (name?.startsWith('a') ? 10 : 30)
    const served: string[] = []
    while (world.turns.numWaiting > 0) {
      served.push(world.serve(costs(world.turns.first()?.name))!)
    }
    assert.deepEqual(served, ['a0', 'b0', 'a1', 'a2', 'a3', 'b1', 'a4', 'a5'])
  })

  it('a new client neither waits for the past of others nor brings credit', () => {
    const { turns, add, serve } = createWorld()
    const running = add('running', 'a', 10)
    turns.take(running)
    turns.charge(running, 1000)
    add('a1', 'a', 10)
    add('b1', 'b', 10)
    add('b2', 'b', 10)
    assert.deepEqual([serve(10), serve(10), serve(10)], ['a1', 'b1', 'b2'])
  })

  it('the items of one request alternate with those of another of the same client', () => {
    const { add, serve } = createWorld()
    for (let i = 0; i < 3; i++) add(`x${i}`, 'client', 10, 'x')
    for (let i = 0; i < 3; i++) add(`y${i}`, 'client', 10, 'y')
    const order = Array.from({ length: 6 }, () => serve(10))
    assert.deepEqual(order, ['x0', 'y0', 'x1', 'y1', 'x2', 'y2'])
  })

  it('small overtakes large until `stretch` times the large one’s cost was served', () => {
    const { add, serve } = createWorld(4)
    add('large', 'client', 100)
    let numBefore = 0
    for (;;) {
      add(`small ${numBefore}`, 'client', 10)
      if (serve(10) === 'large') break
      numBefore++
    }
    assert.equal(numBefore, 36)
  })

  it('what is put back keeps its place; what is put last comes as if it were new', () => {
    const { turns, add, serve } = createWorld()
    const a = add('a', 'client', 10)
    add('b', 'client', 10)
    turns.take(a)
    turns.charge(a, 5)
    turns.putBack(a)
    assert.equal(turns.first(), a)
    turns.take(a)
    turns.putLast(a, 10)
    assert.deepEqual([serve(1), serve(1)], ['b', 'a'])
  })

  it('clients can be left out', () => {
    const { add, serve } = createWorld()
    add('a', 'a', 1)
    add('b', 'b', 1)
    assert.equal(
      serve(1, (client) => client !== 'a'),
      'b',
    )
    assert.equal(
      serve(1, (client) => client !== 'a'),
      undefined,
    )
  })

  it('loses nothing over random histories, and no client stays behind while it waits', () => {
    for (let seed = 0; seed < 300; seed++) {
      const random = createRandomNumbers(seed)
      const { turns, add } = createWorld()
      const waiting = new Set<Item>()
      const taken = new Set<Item>()
      for (let i = 0; i < 200; i++) {
        const choice = random()
        if (choice < 0.4) waiting.add(add(`${i}`, `c${pick(random, 4)}`, 1 + pick(random, 50)))
        else if (choice < 0.7) {
          const first = turns.first()
          assert.equal(first === undefined, waiting.size === 0)
          if (first === undefined) continue
          for (const other of waiting) assert.ok((turns.lead(first, other) ?? 0) <= 0)
          turns.take(first)
          waiting.delete(first)
          taken.add(first)
          turns.charge(first, pick(random, 50))
        } else {
          const all = [...(choice < 0.85 ? taken : waiting)]
          const item = all[pick(random, all.length)]
          if (item === undefined) continue
          if (taken.has(item) && random() < 0.5) {
            taken.delete(item)
            waiting.add(item)
            if (random() < 0.5) turns.putBack(item)
            else turns.putLast(item, pick(random, 50))
          } else {
            assert.equal(turns.remove(item), waiting.has(item))
            taken.delete(item)
            waiting.delete(item)
          }
        }
        assert.deepEqual(new Set(turns.waiting()), waiting)
        assert.equal(turns.numWaiting, waiting.size)
      }
    }
  })
})
