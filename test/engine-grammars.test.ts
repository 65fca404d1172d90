// The grammar thread from the engine's side: what is forgotten is asked for again, a thread that ends or
// stands still takes no other answer with it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { GrammarWalk, OutputConstraint } from '../server/contracts/constraint.ts'
import {
  type GrammarAnswer,
  type GrammarOrder,
  grammarTask,
} from '../server/engine/grammar-task.ts'
import { createGrammars } from '../server/engine/grammars.ts'
import { ServerError } from '../server/errors.ts'
import { ThreadEnded } from '../server/threads/thread.ts'
import { createByteTable } from '../server/tokenizer/byte-table.ts'

const list: OutputConstraint = { kind: 'regex', pattern: '(ab|ac){2,9}' }
const asked = {
  turn: { client: 'client', request: 'request' },
  field: 'guided_regex',
  mayThink: false,
}
const { signal } = new AbortController()
const letters = new Map([...'abc'].map((letter, id) => [letter, id]))
const vocabulary = { bytes: createByteTable(letters, []), excluded: [], vocabSize: 3 }
const nothing = {
  tokens: new Int32Array(),
  phase: 'answering',
  text: '',
  words: [],
  toolFormat: null,
  chatTemplate: null,
  table: null,
} as const
const texts = {
  run: async () => ({ ...nothing, tokenized: { count: 0, tokens: '', tokenStrings: '' } }),
}

type Run = (order: GrammarOrder) => GrammarAnswer | Promise<GrammarAnswer>

/** The task itself, in this thread. `wrap`: what stands between. */
function open(wrap: (run: Run) => Run = (run) => run, budgetMs = 5000) {
  const orders: GrammarOrder[] = []
  let numEnded = 0
  const run = wrap((order) => grammarTask.run(order, () => {}))
  const grammars = createGrammars({
    ...{ vocabulary: () => vocabulary, texts, budgetMs },
    start: () => ({
      async run(order) {
        orders.push(order)
        return run(order)
      },
      async terminate() {
        numEnded++
      },
    }),
  })
  return { grammars, orders, ended: () => numEnded }
}

async function follow(walk: GrammarWalk, text: string): Promise<string> {
  for (const letter of text) {
    await walk.ready()
    walk.accept(letters.get(letter)!)
  }
  await walk.ready()
  const { bits, mayEnd } = walk.allowed!
  return (
    [...letters]
      .filter(([, id]) => (bits[0]! >>> id) & 1)
      .map(([letter]) => letter)
      .join('') + (mayEnd ? '.' : '')
  )
}

describe('grammars of answers', () => {
  it('tell what may come next; each answer goes its own way', async () => {
    const { grammars, orders } = open()
    const grammar = await grammars.open(list, asked, signal)
    const [one, other] = [grammar.start(), grammar.start()]
    assert.equal(await follow(one, 'abac'), 'a.')
    assert.equal(await follow(other, 'a'), 'bc')
    assert.equal(await follow(one, 'a'), 'bc')
    const sent = orders.filter((order) => order.kind === 'walk' && order.constraint !== null)
    assert.equal(sent.length, 1, 'the grammar itself is sent once')
  })

  it('what is said again at once is followed as one', async () => {
    const { grammars, orders } = open()
    const walk = (await grammars.open(list, asked, signal)).start()
    const before = orders.length
    for (const letter of 'abacab') walk.accept(letters.get(letter)!)
    assert.equal(walk.allowed, null)
    assert.equal(await follow(walk, ''), 'a.')
    assert.equal(orders.length, before + 1)
  })

  it('ask the thread but once where a token leads, whichever answer says it', async () => {
    const { grammars, orders } = open()
    const grammar = await grammars.open(list, asked, signal)
    assert.equal(await follow(grammar.start(), 'abac'), 'a.')
    const before = orders.length
    const again = grammar.start()
    for (const letter of 'abac') again.accept(letters.get(letter)!)
    assert.notEqual(again.allowed, null, 'known at once')
    assert.equal(await follow(again, ''), 'a.')
    assert.equal(orders.length, before)
    assert.equal(await follow(again, 'ac'), 'a.')
    assert.equal(orders.length, before + 2)
  })

  it('ask nothing where a token leads back to the same state', async () => {
    const { grammars, orders } = open()
    const free: OutputConstraint = { kind: 'regex', pattern: 'a[a-c]*' }
    const walk = (await grammars.open(free, asked, signal)).start()
    assert.equal(await follow(walk, 'a'), 'abc.')
    const before = orders.length
    assert.equal(await follow(walk, 'abcabccba'), 'abc.')
    // The first of them led to the state that the others stay in.
    assert.ok(orders.length <= before + 1)
  })

  // The numbers of states began anew with each thread: an answer could go on from another's state.
  it('take no state of a new thread for one of the thread before', async () => {
    let isBroken = false
    const { grammars } = open((run) => (order) => {
      if (!isBroken) return run(order)
      isBroken = false
      throw new ThreadEnded('it ran out of memory')
    })
    const grammar = await grammars.open(list, asked, signal)
    const [one, other] = [grammar.start(), grammar.start()]
    assert.equal(await follow(one, 'a'), 'bc')
    isBroken = true
    // Said at once: each is one state of the new thread.
    for (const letter of 'abab') other.accept(letters.get(letter)!)
    assert.equal(await follow(other, ''), 'a.')
    for (const letter of 'aca') other.accept(letters.get(letter)!)
    assert.equal(await follow(other, ''), 'bc')
    assert.equal(await follow(one, 'b'), 'a')
  })

  it('that the thread has forgotten are sent again, with all tokens', async () => {
    const { grammars, orders } = open((run) => {
      let count = 0
      return (order) =>
        order.kind === 'walk' && order.constraint === null && ++count % 3 === 0
          ? { kind: 'lost' }
          : run(order)
    })
    const walk = (await grammars.open(list, asked, signal)).start()
    assert.equal(await follow(walk, 'abacabac'), 'a.')
    const last = orders.findLast((order) => order.kind === 'walk' && order.constraint !== null)
    assert.ok(last?.kind === 'walk' && last.from === 0 && last.tokens.length > 1)
  })

  it('go on in another thread when theirs ends', async () => {
    let isBroken = false
    const { grammars, orders, ended } = open((run) => (order) => {
      if (!isBroken) return run(order)
      isBroken = false
      throw new ThreadEnded('it ran out of memory')
    })
    const walk = (await grammars.open(list, asked, signal)).start()
    assert.equal(await follow(walk, 'ab'), 'a')
    isBroken = true
    assert.equal(await follow(walk, 'ac'), 'a.')
    assert.equal(ended(), 1)
    assert.equal(orders.filter(({ kind }) => kind === 'open').length, 2)
  })

  it('that stand still fail alone: who waits behind is served by the next thread', async () => {
    const stuck = new Promise<never>(() => {})
    let first: GrammarOrder | undefined
    let isStuck = false
    const { grammars } = open(
      (run) => async (order) => {
        if (!isStuck) return run(order)
        first ??= order
        // All that comes to a thread that stands still waits, until there is another.
        return order.kind === 'open'
          ? run(order)
          : order === first || (order.tokens.length > 0 && order.from !== 0)
            ? stuck
            : run(order)
      },
      60,
    )
    const grammar = await grammars.open(list, asked, signal)
    const [bad, good] = [grammar.start(), grammar.start()]
    isStuck = true
    bad.accept(0)
    await new Promise((resolve) => setImmediate(resolve))
    good.accept(0)
    await Promise.all([bad.ready(), good.ready()])
    assert.throws(() => bad.allowed, ServerError)
    assert.equal(await follow(good, ''), 'bc')
  })

  it('that are refused while they run say why', async () => {
    const { grammars } = open((run) => (order) => {
      if (order.kind === 'walk' && order.from !== 0)
        throw new ServerError('invalid_value', 'Too much.')
      return run(order)
    })
    const walk = (await grammars.open(list, asked, signal)).start()
    walk.accept(0)
    await walk.ready()
    walk.accept(1)
    await walk.ready()
    assert.throws(() => walk.allowed, /Too much/)
  })

  it('end with the engine', async () => {
    const { grammars } = open()
    const walk = (await grammars.open(list, asked, signal)).start()
    await grammars.close()
    walk.accept(0)
    await walk.ready()
    assert.throws(() => walk.allowed, ServerError)
  })
})
