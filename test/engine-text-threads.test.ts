// Template and tokenizer in threads: over fake threads for turns, budgets and cancellation, over real
// ones for templates that never end.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { Prompt } from '../server/contracts/generation.ts'
import type { TextOrder, TextResult, TextWork } from '../server/engine/text-task.ts'
import { createTextThreads, type TextThreadsOptions } from '../server/engine/text-threads.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { ServerError } from '../server/errors.ts'
import { ThreadEnded } from '../server/threads/thread.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { writeByteTokenizer } from './support/byte-tokenizer.ts'
import { within } from './support/deadline.ts'
import { bytesOf } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const patience = 30_000
const dir = createTempFolder()
writeByteTokenizer(dir)

const textOf = (text: string): TextWork => ({
  kind: 'encode',
  prompt: { kind: 'text', text },
  maxContext: 100,
})
const turnOf = (client: string) => ({ client, request: client })
const result: TextResult = {
  tokens: Int32Array.of(1),
  phase: 'answering',
  text: '',
  tokenized: { count: 0, tokens: '[]', tokenStrings: '[]' },
  words: [],
  toolFormat: null,
  chatTemplate: null,
  table: loadTokenizer(dir).table,
}

/** Threads that answer when a test says so; a thread that is ended opens again at once. */
function createFakeThreads(options: Partial<TextThreadsOptions> = {}) {
  const orders: { text: string; thread: number; answer(): void; fail(error: unknown): void }[] = []
  const ends: number[] = []
  const notices: string[] = []
  let numThreads = 0
  let nowMs = 0

  function start() {
    const thread = numThreads++
    let live: ((error: unknown) => void)[] = []
    return {
      run({ work }: TextOrder): Promise<TextResult> {
        if (work.kind === 'open') return Promise.resolve(result)
        const { promise, resolve, reject } = createDeferred<TextResult>()
        live.push(reject)
        const text = work.kind === 'encode' && work.prompt.kind === 'text' ? work.prompt.text : ''
        orders.push({ text, thread, answer: () => resolve(result), fail: reject })
        return promise
      },
      async terminate() {
        ends.push(thread)
        for (const reject of live) reject(new ThreadEnded('ended'))
        live = []
      },
    }
  }

  const threads = createTextThreads({
    dir,
    onNotice: (message) => notices.push(message),
    now: () => nowMs,
    numThreads: 2,
    budgetMs: () => patience,
    start,
    ...options,
  })
  return {
    orders,
    ends,
    notices,
    close: threads.close,
    pass(ms: number): void {
      nowMs += ms
    },
    opened: threads.opened,
    run: (text: string, client: string, signal?: AbortSignal) =>
      within(patience, text, threads.run(textOf(text), { client, request: text }, signal)),
    /** Orders that threads have by now. */
    async begun(): Promise<string[]> {
      await new Promise((resolve) => setImmediate(resolve))
      return orders.map(({ text }) => text)
    },
  }
}

describe('texts of several clients', () => {
  it('a client has one thread at a time, so that another never waits for its slow texts', async () => {
    const world = createFakeThreads()
    const slow = world.run('slow', 'a')
    const behind = world.run('behind', 'a')
    assert.deepEqual(await world.begun(), ['slow'])
    const other = world.run('other', 'b')
    assert.deepEqual(await world.begun(), ['slow', 'other'])
    world.orders[1]!.answer()
    await other
    world.orders[0]!.answer()
    await slow
    assert.deepEqual(await world.begun(), ['slow', 'other', 'behind'])
    world.orders[2]!.answer()
    await behind
    await world.close()
  })

  it('short ones of a client come before its long ones that wait', async () => {
    const world = createFakeThreads()
    const all = ['first', 'x'.repeat(1000), 'short'].map((text) => world.run(text, 'a'))
    for (let i = 0; i < 3; i++) {
      await world.begun()
      world.orders[i]!.answer()
    }
    await Promise.all(all)
    assert.deepEqual(
      world.orders.map(({ text }) => text.length),
      [5, 5, 1000],
    )
    await world.close()
  })

  it('beside a long text of a client its short ones have a second thread, its long ones wait', async () => {
    const world = createFakeThreads()
    const all = [world.run('x'.repeat(50_000), 'a')]
    await world.begun()
    for (const text of ['y'.repeat(50_000), 'short', 'brief']) all.push(world.run(text, 'a'))
    assert.deepEqual((await world.begun()).slice(1), ['short'])
    world.orders[1]!.answer()
    assert.deepEqual((await world.begun()).slice(2), ['brief'])
    world.orders[2]!.answer()
    assert.equal((await world.begun()).length, 3)
    world.orders[0]!.answer()
    assert.equal((await world.begun()).length, 4)
    world.orders[3]!.answer()
    await Promise.all(all)
    await world.close()
  })

  it('one that is cancelled while it waits never begins; while it runs, its answer is dropped', async () => {
    const world = createFakeThreads()
    const [running, waiting] = [new AbortController(), new AbortController()]
    const outcomes = Promise.allSettled([
      world.run('running', 'a', running.signal),
      world.run('waiting', 'a', waiting.signal),
    ])
    await world.begun()
    waiting.abort()
    running.abort()
    for (const { status } of await outcomes) assert.equal(status, 'rejected')
    const next = world.run('next', 'a')
    world.orders[0]!.answer()
    assert.deepEqual(await world.begun(), ['running', 'next'])
    world.orders[1]!.answer()
    await next
    await world.close()
  })

  it('a refusal is handed on, and the thread goes on', async () => {
    const world = createFakeThreads()
    const refused = world.run('refused', 'a')
    await world.begun()
    world.orders[0]!.fail(new ServerError('context_length_exceeded', 'too long'))
    await assert.rejects(refused, { code: 'context_length_exceeded' })
    assert.deepEqual(world.ends, [])
    await world.close()
  })
})

describe('a text that takes too long', () => {
  const budgetMs = (numChars: number) => (numChars > 3 ? patience : 1)

  it('is refused, its thread is ended, and the next one has a new thread', async () => {
    const world = createFakeThreads({ budgetMs })
    await assert.rejects(world.run('bad', 'a'), { code: 'invalid_request' })
    assert.deepEqual(world.ends, [0])
    const good = world.run('good', 'a')
    await world.begun()
    world.orders[1]!.answer()
    assert.deepEqual(await good, result)
    await world.close()
  })

  it('three times in a row has its client refused for a while, and the operator told', async () => {
    const world = createFakeThreads({ budgetMs })
    for (let i = 0; i < 3; i++) await assert.rejects(world.run('bad', 'a'))
    assert.equal(world.notices.length, 1)
    assert.match(world.notices[0]!, /3 texts in a row of one client, 3 in all/)
    await assert.rejects(world.run('good', 'a'), { code: 'rate_limit_exceeded' })
    assert.equal(world.orders.length, 3)
    const other = world.run('good', 'b')
    await world.begun()
    world.orders[3]!.answer()
    await other
    world.pass(30_000)
    const later = world.run('later', 'a')
    await world.begun()
    world.orders[4]!.answer()
    await later
    await world.close()
  })
})

describe('real threads', () => {
  const hostile = createTempFolder()
  writeByteTokenizer(hostile)
  // Ends at once for "fine", and not in anybody's lifetime for anything else.
  writeFileSync(
    join(hostile, 'chat_template.jinja'),
    "{% if messages[0].content != 'fine' %}{% for a in range(99999) %}{% for b in range(99999) %}" +
      '{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}',
  )
  const say = (content: string): Exclude<Prompt, { kind: 'tokens' }> => ({
    kind: 'messages',
    messages: [{ role: 'user', content }],
  })

  it('a template that never ends takes its own request, not those of others', async () => {
    const threads = createTextThreads({
      dir: hostile,
      onNotice: () => {},
      now: () => performance.now(),
      budgetMs: (numChars) => (numChars > 20 ? 100 : patience),
    })
    const run = (content: string, client: string) => {
      const work = { kind: 'encode', prompt: say(content), maxContext: 100 } as const
      return within(patience, content, threads.run(work, turnOf(client)))
    }
    try {
      await within(patience, 'threads', threads.opened())
      const bad = assert.rejects(run('never ends', 'a'), { code: 'invalid_request' })
      const { tokens } = await run('fine', 'b')
      assert.deepEqual([...tokens], bytesOf('fine'))
      await bad
      assert.deepEqual([...(await run('fine', 'a')).tokens], bytesOf('fine'))
    } finally {
      await threads.close()
    }
  })

  it('a text that cannot fit is refused by its bytes; one that fits is encoded', async () => {
    const threads = createTextThreads({ dir, onNotice: () => {}, now: () => performance.now() })
    try {
      const long = threads.run(textOf('7'.repeat(2_000_000)), turnOf('a'))
      await assert.rejects(within(patience, 'refusal', long), (error: ServerError) => {
        assert.equal(error.code, 'context_length_exceeded')
        return true
      })
      const { tokens } = await within(patience, 'text', threads.run(textOf('hi'), turnOf('a')))
      assert.deepEqual([...tokens], bytesOf('hi'))
    } finally {
      await threads.close()
    }
  })
})
