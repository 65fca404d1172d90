// npm run structured -- [--count 1000] [--seed 1] [--model FOLDER or GGUF] [--max-tokens 400]
//   [--results FILE] [--retry-cut] [--sampling-seed 1] [--prompt TEXT]
// Random schemas as response_format against a server of its own, of models/tiny-reasoner by default. Exit
// code 1 where an answer does not validate; each is printed.
// --results: a line of JSON for each answer; schemas that it has are not asked for again, so that a run
// that was ended goes on. --retry-cut: those of it that were cut are, with max-tokens, sampling seed and
// prompt of now.

import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startServer } from '../support/real-server.ts'
import { root } from '../support/root.ts'
import { type Answer, countOf, runCampaign } from './campaign.ts'
import { causeOfCut, shortestBytes } from './cut.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    model: { type: 'string', default: join(root, 'models', 'tiny-reasoner') },
    'max-tokens': { type: 'string', default: '400' },
    'cache-dir': { type: 'string', default: '' },
    results: { type: 'string', default: '' },
    'retry-cut': { type: 'boolean', default: false },
    'sampling-seed': { type: 'string' },
    prompt: { type: 'string' },
  },
})
const maxTokens = Number(values['max-tokens'])

/** By the schema's number: what the file says of it last. */
function readResults(): Map<number, Answer> {
  const { results } = values
  const text = results !== '' && existsSync(results) ? readFileSync(results, 'utf8') : ''
  const lines = text.split('\n').filter((line) => line !== '')
  const answers = lines.map((line) => JSON.parse(line) as Answer)
  return new Map(answers.map((answer) => [answer.index, answer]))
}

function summaryOf(answers: readonly Answer[]): string {
  const [valid, invalid, cut] = (['valid', 'invalid', 'cut'] as const).map((kind) =>
    countOf(answers, kind),
  )
  return `${valid} valid, ${invalid} invalid, ${cut} cut by max_tokens`
}

/** How many were cut by what; and whether a short answer was there. */
function tellCuts(answers: readonly Answer[]): void {
  const cut = answers.filter(({ kind }) => kind === 'cut')
  if (cut.length === 0) return
  const causes = new Map<string, number>()
  for (const { text } of cut) {
    const cause = causeOfCut(text)
    causes.set(cause, (causes.get(cause) ?? 0) + 1)
  }
  const told = [...causes].map(([cause, count]) => `${count} ${cause}`).join(', ')
  const shortest = cut.map(({ schema }) => shortestBytes(schema))
  const numShort = shortest.filter((size) => size <= maxTokens).length
  console.log(
    `cut: ${told}. ${numShort} of ${cut.length} have an answer of at most ${maxTokens} bytes, the ` +
      `shortest of each at most ${Math.max(...shortest)}`,
  )
}

const results = readResults()
const temp = mkdtempSync(join(tmpdir(), 'dutyfree-structured-'))
const cache = values['cache-dir'] === '' ? join(temp, 'cache') : values['cache-dir']
const flags = ['--model', values.model, '--cache-dir', cache, '--max-batch', '8']
const server = await startServer([...flags, '--served-model-name', 'model'], {
  readyWithinMs: 600_000,
})
try {
  const start = performance.now()
  const isOpen = (kind: Answer['kind'] | undefined) =>
    kind === undefined || (kind === 'cut' && values['retry-cut'])
  const wasOpen = new Set(
    [...Array(Number(values.count)).keys()].filter((i) => isOpen(results.get(i)?.kind)),
  )
  const asked = await runCampaign({
    url: `${server.url}/v1`,
    model: 'model',
    seed: Number(values.seed),
    count: Number(values.count),
    maxTokens,
    width: 8,
    isAsked: (index) => wasOpen.has(index),
    ...(values.prompt === undefined ? {} : { prompt: values.prompt }),
    ...(values['sampling-seed'] === undefined
      ? {}
      : { samplingSeed: Number(values['sampling-seed']) }),
    onAnswer(answer) {
      results.set(answer.index, answer)
      if (values.results !== '') appendFileSync(values.results, `${JSON.stringify(answer)}\n`)
      if (results.size % 25 === 0)
        console.log(`${results.size}: ${summaryOf([...results.values()])}`)
    },
  })
  const all = [...results.values()]
  for (const { kind, schema, text, why } of all) {
    if (kind !== 'invalid') continue
    console.log(`\nINVALID ${why}\n${schema.slice(0, 4000)}\n${text.slice(0, 2000)}`)
  }
  tellCuts(all)
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  const numTokens = asked.reduce((sum, answer) => sum + answer.numTokens, 0)
  console.log(`${summaryOf(all)}; ${numTokens} tokens in ${seconds} s`)
  if (countOf(all, 'invalid') > 0) {
    process.exitCode = 1
    // What the server had to say of it, but for its usual lines.
    const usual = '{"level":30'
    for (const line of server.lines) if (!line.startsWith(usual)) console.log(line.slice(0, 2000))
  }
} finally {
  await server.stop()
  rmSync(temp, { recursive: true, force: true })
}
