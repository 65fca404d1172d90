// What a grammar on one of eight rows costs the batch: tokens per second of eight answers at a time, with
// and without, in turn. And what grammars cost by themselves: compiling, and the tokens that may come next.
//   node dist/bench/tools/grammar-speed.js [--model models/tiny-reasoner] [--rounds 9] [--tokens 96] [--sizes 800]

import { parseArgs } from 'node:util'
import { grammarOf } from '../../server/constraints/grammar-of.ts'
import { buildMachine } from '../../server/grammar/machine.ts'
import { createMatcher } from '../../server/grammar/matcher.ts'
import { buildTokenTrie, type TokenTrie } from '../../server/grammar/token-trie.ts'
import { bytesOf } from '../../server/tokenizer/byte-table.ts'
import { loadTokenizer } from '../../server/tokenizer/tokenizer.ts'
import { startMeasuredServer } from './measured-server.ts'

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'models/tiny-reasoner' },
    tokenizer: { type: 'string', default: 'models/tiny-reasoner' },
    rounds: { type: 'string', default: '9' },
    tokens: { type: 'string', default: '96' },
    sizes: { type: 'string', default: '800,49152,152000' },
    'cache-dir': { type: 'string', default: '.cache/grammar-speed' },
  },
})
const numRows = 8

/** Does not end within the tokens that are asked for. */
const endless = { type: 'array', items: { type: 'string' }, minItems: 5000 }

const schemas: Readonly<Record<string, object>> = {
  'any object': { type: 'object' },
  record: {
    type: 'object',
    properties: {
      name: { type: 'string' },
      age: { type: 'integer', minimum: 0, maximum: 150 },
      tags: { type: 'array', items: { type: 'string' } },
      at: { type: 'string', format: 'date-time' },
    },
    required: ['name', 'age', 'tags', 'at'],
  },
  'pattern of 40': { type: 'string', pattern: '^[a-z]{1,40}$' },
  'maxLength 5000': { type: 'string', maxLength: 5000 },
  'enum of 20,000': { enum: Array.from({ length: 20_000 }, (_, i) => `value ${i}`) },
}

// ---- By themselves ----

/** The tokenizer's own tokens, and made-up ones up to a size. */
function openTrie(folder: string, size: number): TokenTrie {
  const { table } = loadTokenizer(folder)
  const numKnown = table.bytes.starts.length - 1
  const special = new Set(table.added.map(({ id }) => id))
  const letters = 'etaoinshrdlucmfwypvbgkjqxz'
  return buildTokenTrie({
    vocabSize: Math.max(size, numKnown),
    bytesOf(id) {
      if (id < numKnown) return special.has(id) ? new Uint8Array() : bytesOf(table.bytes, id)
      let word = id % 2 === 0 ? ' ' : ''
      for (let rest = id * 7919; rest > 0; rest = Math.floor(rest / 26)) word += letters[rest % 26]
      return Buffer.from(word)
    },
  })
}

function cpuMs(run: () => void): number {
  const before = process.cpuUsage()
  run()
  return process.cpuUsage(before).user / 1000
}

function measureGrammars(trie: TokenTrie): void {
  for (const [name, schema] of Object.entries(schemas)) {
    let matcher: ReturnType<typeof createMatcher> | undefined
    const compileMs = cpuMs(() => {
      const grammar = grammarOf({ kind: 'json_schema', schema: JSON.stringify(schema) })
      matcher = createMatcher(buildMachine(grammar, { isWritable: () => true }))
      matcher.start()
    })
    const times: number[] = []
    let state = matcher!.start()
    for (let i = 0; i < 200; i++) {
      const bits = new Uint32Array(Math.ceil(trie.vocabSize / 32))
      let numTokens = 0
      times.push(cpuMs(() => (numTokens = matcher!.allow(state, trie, bits))))
      if (numTokens === 0) break
      const byte = firstByte(matcher!, state, i)
      if (byte === null) break
      state = byte
    }
    times.sort((a, b) => a - b)
    const [p50, max] = [times[times.length >> 1]!, times.at(-1)!]
    console.log(
      `${trie.vocabSize} tokens, ${name}: compiled in ${compileMs.toFixed(1)} ms, next tokens ` +
        `p50 ${p50.toFixed(2)}, max ${max.toFixed(2)} ms of CPU (${times.length} states)`,
    )
  }
}

/** A state one byte further: another byte each time, where there are several. */
function firstByte(
  matcher: ReturnType<typeof createMatcher>,
  state: ReturnType<typeof matcher.start>,
  turn: number,
) {
  for (let i = 0; i < 256; i++) {
    const next = matcher.read(state, Uint8Array.of((97 + turn * 7 + i) & 255))
    if (next !== null) return next
  }
  return null
}

// ---- In a batch ----

async function measureBatch(url: string, numConstrained: number, maxTokens: number) {
  const startMs = performance.now()
  await Promise.all(
    Array.from({ length: numRows }, async (_, i) => {
      const response = await fetch(`${url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          ...{ model: 'model', prompt: `Answer ${i}: `, seed: i, temperature: 1 },
          ...{ max_tokens: maxTokens, ignore_eos: true },
          ...(i < numConstrained ? { guided_json: endless } : {}),
        }),
      })
      const { usage } = (await response.json()) as { usage: { completion_tokens: number } }
      if (usage.completion_tokens !== maxTokens) throw new Error('an answer ended early')
    }),
  )
  return (1000 * numRows * maxTokens) / (performance.now() - startMs)
}

function median(all: readonly number[]): number {
  return [...all].sort((a, b) => a - b)[all.length >> 1]!
}

for (const size of values.sizes.split(',').filter(Boolean)) {
  measureGrammars(openTrie(values.tokenizer, Number(size)))
}
const server = await startMeasuredServer([
  ...['--model', values.model, '--served-model-name', 'model'],
  ...['--cache-dir', values['cache-dir'], '--max-batch', String(numRows)],
])
try {
  const maxTokens = Number(values.tokens)
  const counts = [0, 1, numRows]
  const speeds = new Map(counts.map((count) => [count, [] as number[]]))
  for (const count of counts) await measureBatch(server.url, count, 16)
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const count of round % 2 === 0 ? counts : [...counts].reverse()) {
      speeds.get(count)!.push(await measureBatch(server.url, count, maxTokens))
    }
  }
  const free = speeds.get(0)!
  for (const [count, all] of speeds) {
    const shares = all.map((speed, round) => speed / free[round]!)
    console.log(
      `${count} of ${numRows} rows with a grammar: ${median(all).toFixed(0)} tokens/s, ` +
        `${median(shares).toFixed(3)} of none (median of ${all.length} pairs)`,
    )
  }
} finally {
  server.stop()
}
