// What reaches a client of a reply that is blocked, byte by byte: what the verdicts let pass, and nothing
// beyond it, however the reply is cut into tokens, prompts into chunks and the stream into reads, and
// however slowly it is read. The whole front over the real loop and a scripted model.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { GenerateRequest, GenerationEvent } from '../server/contracts/generation.ts'
import { isTerminal } from '../server/contracts/generation.ts'
import { accepted, createFakeEngine, fakeModel, type Script } from './support/fake-engine.ts'
import { createFront, listen } from './support/front.ts'
import { runUnjudged } from './support/judged-reference.ts'
import { capacity, choose, randomScore } from './support/judged-requests.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import {
  adaptersOf,
  bytesOf,
  createTestLoop,
  eos,
  promptTokensOf,
  replying,
  testGuard,
} from './support/scripted-model.ts'

type Random = ReturnType<typeof createRandomNumbers>

const nextTurn = () => new Promise((resolve) => setImmediate(resolve))
const pieces = ['a', 'é', '€', '😀', 'STOP', ' b', 'ST', '\n']

interface Case {
  readonly reply: readonly number[]
  /** Unsafe from so many tokens of the reply on. */
  readonly unsafeFrom: number
  readonly every: number
  readonly maxChunk: number
  readonly stop: readonly string[]
  readonly company: number
}

function randomCase(random: Random): Case {
  const text = Array.from({ length: 1 + pick(random, 14) }, () => choose(random, pieces)).join('')
  const reply = bytesOf(text).slice(0, 44)
  return {
    reply,
    unsafeFrom: 1 + pick(random, Math.ceil(1.4 * reply.length)),
    every: 1 + pick(random, 12),
    maxChunk: 2 + pick(random, 6),
    stop: choose(random, [[], ['STOP'], ['b\n', '€']]),
    company: pick(random, 4),
  }
}

/** The loop as the front sees it. */
function createJudgedEngine({ reply, unsafeFrom, maxChunk, company }: Case) {
  const world = createTestLoop({
    ...{ rows: 4, capacity, maxChunk, guard: testGuard },
    logits: replying({ hi: reply, zz: [...reply].reverse() }),
    score: (context) => (context.length >= 2 + unsafeFrom ? 0.9 : 0.1),
  })
  const asked: GenerateRequest[] = []
  const script: Script = async function* (request) {
    asked.push(request)
    yield accepted(request)
    world.submit(request)
    for (let i = 0; i < company; i++) {
      const prompt = { kind: 'text', text: 'zz'.repeat(1 + i) } as const
      world.submit({ ...request, id: `beside ${i}`, prompt, maxTokens: 20 })
    }
    let numTold = 0
    for (let isOver = false; !isOver; await nextTurn()) {
      for (const event of world.events(request.id).slice(numTold)) {
        numTold++
        yield event
        isOver = isTerminal(event)
      }
    }
  }
  const engine = createFakeEngine({ script })
  const guard = { ...testGuard.info, digest: null }
  Object.assign(engine, { model: { ...fakeModel, guard } })
  return { engine, world, asked }
}

/** Reads a stream in pieces of random length, with turns of the event loop between. */
async function readSlowly(response: Response, random: Random): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const bytes of response.body!) {
    for (let at = 0; at < bytes.length; ) {
      const length = 1 + pick(random, 40)
      text += decoder.decode(bytes.subarray(at, at + length), { stream: true })
      at += length
    }
    for (let i = pick(random, 30); i > 0; i--) await nextTurn()
  }
  return text + decoder.decode()
}

interface Chunk {
  readonly choices: ReadonlyArray<{
    readonly text: string
    readonly finish_reason: string | null
    readonly logprobs: { readonly tokens: readonly string[] } | null
  }>
}

function readChunks(stream: string) {
  const chunks = stream
    .split('\n\n')
    .filter((block) => block.startsWith('data: {'))
    .map((block) => JSON.parse(block.slice('data: '.length)) as Chunk)
  const choices = chunks.flatMap((chunk) => chunk.choices)
  return {
    text: choices.map(({ text }) => text).join(''),
    numTokens: choices.flatMap(({ logprobs }) => logprobs?.tokens ?? []).length,
    reason: choices.findLast(({ finish_reason }) => finish_reason !== null)?.finish_reason,
  }
}

const deltasOf = (events: readonly GenerationEvent[]) =>
  events.filter((event) => event.kind === 'delta')

/** What passed: the tokens up to the last verdict before the text was unsafe, or all of them. */
function releasedBy(request: GenerateRequest, { reply, unsafeFrom, every }: Case) {
  const { deltas, places } = runUnjudged(
    {
      ...{ request, index: 0, adapters: adaptersOf([]), phase: 'answering', capacity },
      ...{ logits: replying({ hi: reply }), score: randomScore, probe: null },
    },
    'never',
  )
  const flagged = places.find(({ numTokens }) => numTokens >= unsafeFrom)
  const before = places.filter(({ numTokens }) => numTokens < unsafeFrom).at(-1)?.numTokens ?? 0
  assert.ok(flagged === undefined || flagged.numTokens - before <= every)
  const boundary = flagged === undefined ? Number.POSITIVE_INFINITY : before
  const passed = deltas.filter(({ numTokens }) => numTokens <= boundary).map(({ event }) => event)
  const text = deltasOf(passed)
    .map((delta) => delta.text)
    .join('')
  return { text, boundary, isFlagged: flagged !== undefined }
}

async function checkCase(it: Case, random: Random, isSocket: boolean): Promise<boolean> {
  const { engine, asked } = createJudgedEngine(it)
  const front = createFront({ engine, config: { judgeEvery: it.every } })
  const body = {
    ...{ model: 'tiny', prompt: 'hi', stream: true, safety: 'block', logprobs: 0 },
    ...{ temperature: 0, stop: it.stop, max_tokens: 48 },
  }
  const socket = isSocket ? await listen(front) : null
  try {
    const response = await (socket === null
      ? front.post('/v1/completions', body)
      : fetch(`${socket.url}/v1/completions`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        }))
    const stream = await readSlowly(response, random)
    const [request] = asked
    const { text, boundary, isFlagged } = releasedBy(request!, it)
    const told = readChunks(stream)
    assert.equal(told.text, text)
    assert.equal(told.reason === 'content_filter', isFlagged)
    // Told of other code, too: the text of the tokens themselves, up to the boundary.
    const tokens = [...it.reply, eos].slice(0, Math.min(boundary, it.reply.length))
    assert.ok(
      Buffer.from(tokens)
        .toString()
        .startsWith(told.text.replace(/\uFFFD+$/, '')),
    )
    assert.ok(told.numTokens <= boundary, `${told.numTokens} tokens, ${boundary} passed`)
    assert.equal(promptTokensOf(request!).length, 2)
    return isFlagged
  } finally {
    await socket?.close()
  }
}

describe('a reply that is blocked', () => {
  for (const [name, isSocket, rounds] of [
    ['in the process', false, 250],
    ['over a socket', true, 60],
  ] as const) {
    it(`reaches a slow client up to the boundary, and no byte beyond: ${name}`, async () => {
      const random = createRandomNumbers(isSocket ? 1 : 2)
      let numFlagged = 0
      for (let round = 0; round < rounds; round++) {
        const it = randomCase(random)
        try {
          if (await checkCase(it, random, isSocket)) numFlagged++
        } catch (error) {
          throw new Error(`round ${round}: ${JSON.stringify(it)}`, { cause: error })
        }
      }
      assert.ok(numFlagged > rounds / 4 && numFlagged < rounds, `${numFlagged} flagged`)
    })
  }
})
