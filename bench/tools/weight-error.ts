// What quantised weights change, per setting, on a reasoner's own held-out prompts: the float32
// model's greedy answers are fed to each setting token by token, and its next-token distributions are
// compared. Prints a table as Markdown. Needs training/.venv, which `npm test` makes.
//   node dist/bench/tools/weight-error.js [models/tiny-reasoner] [prompts per set, 50] [int4: only these]
//     [fp16: of keys and values, auto]

import { execFileSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { blockSizes, type WeightFormat } from '../../server/contracts/checkpoint.ts'
import type { KvCacheDtype } from '../../server/contracts/engine.ts'
import type { ChatMessage } from '../../server/contracts/generation.ts'
import { dequantizeRows, quantizeRows } from '../../server/graph/quantize.ts'
import { loadChatTemplate } from '../../server/model/chat-template.ts'
import { openCheckpoint } from '../../server/model/checkpoint.ts'
import { expectedTensors } from '../../server/model/checkpoint-tensors.ts'
import { loadTokenizer } from '../../server/model/tokenizer.ts'
import { python } from '../../test/support/python.ts'
import { root } from '../../test/support/root.ts'
import { openServedModel, topTwo } from '../../test/support/served-model.ts'

const rows = 8
const maxTokens = 200
const capacity = 512

type Model = Awaited<ReturnType<typeof openServedModel>>
type Prompt = readonly number[]

/** An answer of the float32 model, its end token included, and the logits each token came from. */
interface Reference {
  readonly tokens: number[]
  readonly logits: Float32Array[]
}

interface Comparison {
  readonly meanKl: number
  /** The one position in a hundred above which the divergence lies. */
  readonly p99Kl: number
  readonly maxKl: number
  readonly sameTokens: number
  readonly sameAnswers: number
}

function readPrompts(model: string, perSet: number): Prompt[] {
  const args = ['-m', 'trainer', 'prompts', '--n', String(perSet)]
  const output = execFileSync(python, args, { cwd: join(root, 'training'), encoding: 'utf8' })
  const template = loadChatTemplate(model, loadTokenizer(model))
  return output
    .trim()
    .split('\n')
    .map((line) => {
      const { messages } = JSON.parse(line) as { messages: readonly ChatMessage[] }
      return template.encode(messages, { addGenerationPrompt: true }).tokens
    })
}

/** Shows every position's logits to `next`, which gives the token to go on with or null to end. */
async function walk(
  model: Model,
  prompts: readonly Prompt[],
  next: (prompt: number, logits: Float32Array) => number | null,
): Promise<void> {
  const { runner, config } = model
  for (let first = 0; first < prompts.length; first += rows) {
    const group = prompts.slice(first, first + rows)
    const pending: (number | null)[] = []
    const batch = group.map((tokens) => ({ token: 0, past: tokens.length - 1, components: [] }))
    for (const [row, tokens] of group.entries()) {
      const logits = await runner.prefill({ row, tokens, past: 0, components: [] })
      pending[row] = next(first + row, logits)
    }
    while (pending.some((token) => token !== null)) {
      // A row that has ended computes its last token again, at the same place.
      for (const [row, state] of batch.entries()) {
        const token = pending[row] ?? null
        if (token !== null) batch[row] = { ...state, token, past: state.past + 1 }
      }
      const logits = await runner.decode(batch)
      for (const row of batch.keys()) {
        if (pending[row] === null) continue
        const own = logits.subarray(row * config.vocabSize, (row + 1) * config.vocabSize)
        pending[row] = next(first + row, own)
      }
    }
  }
}

async function answer(
  model: Model,
  prompts: readonly Prompt[],
  eos: readonly number[],
): Promise<Reference[]> {
  const references = prompts.map((): Reference => ({ tokens: [], logits: [] }))
  await walk(model, prompts, (prompt, logits) => {
    const { tokens, logits: kept } = references[prompt]!
    const { token } = topTwo(logits)
    kept.push(logits.slice())
    tokens.push(token)
    return eos.includes(token) || tokens.length === maxTokens ? null : token
  })
  return references
}

async function compare(
  model: Model,
  prompts: readonly Prompt[],
  references: readonly Reference[],
): Promise<Comparison> {
  const steps = references.map(() => 0)
  const differs = new Set<number>()
  const divergences: number[] = []
  let same = 0
  await walk(model, prompts, (prompt, logits) => {
    const { tokens, logits: wanted } = references[prompt]!
    const step = steps[prompt]!++
    divergences.push(divergence(wanted[step]!, logits))
    if (topTwo(logits).token === tokens[step]) same++
    else differs.add(prompt)
    return step + 1 < tokens.length ? (tokens[step] as number) : null
  })
  const count = divergences.length
  const ascending = Float64Array.from(divergences).sort()
  return {
    meanKl: divergences.reduce((sum, kl) => sum + kl, 0) / count,
    p99Kl: ascending[Math.floor(count * 0.99)] ?? 0,
    maxKl: ascending.at(-1) ?? 0,
    sameTokens: same / count,
    sameAnswers: 1 - differs.size / references.length,
  }
}

/** KL(p ‖ q) of two softmaxes, in nats. */
function divergence(p: Float32Array, q: Float32Array): number {
  const [logP, logQ] = [logSoftmax(p), logSoftmax(q)]
  let sum = 0
  for (const [i, value] of logP.entries()) sum += Math.exp(value) * (value - logQ[i]!)
  return Math.max(0, sum)
}

function logSoftmax(logits: Float32Array): Float64Array {
  const values = Float64Array.from(logits)
  const most = values.reduce((x, y) => Math.max(x, y))
  const total = values.reduce((sum, value) => sum + Math.exp(value - most), 0)
  return values.map((value) => value - most - Math.log(total))
}

/** Root mean square of what rounding changes, over that of the weights: all matrices as one. */
function weightError(dir: string, format: WeightFormat): number {
  if (format.kind !== 'quantized') return 0
  const checkpoint = openCheckpoint(dir)
  const { tensors, config } = checkpoint
  let [error, whole] = [0, 0]
  for (const [name, shape] of expectedTensors(config)) {
    if (shape.length !== 2) continue
    const options = { ...format, columns: shape[1] as number }
    const values = tensors.read(name)
    for (const [i, value] of dequantizeRows(quantizeRows(values, options), options).entries()) {
      error += (value - values[i]!) ** 2
      whole += values[i]! ** 2
    }
  }
  checkpoint.close()
  return Math.sqrt(error / whole)
}

const settings: readonly WeightFormat[] = [
  { kind: 'fp32' },
  ...([8, 4] as const).flatMap((bits) =>
    [false, true].flatMap((searchScales) =>
      blockSizes.flatMap((block) =>
        [false, true].map((zeroPoints): WeightFormat => {
          return { kind: 'quantized', bits, block, zeroPoints, searchScales }
        }),
      ),
    ),
  ),
]

function describe(format: WeightFormat): { title: string; bits: number } {
  if (format.kind !== 'quantized') return { title: 'fp32', bits: 32 }
  const { bits, block, zeroPoints, searchScales } = format
  const parts = [`int${bits}`, `block ${block}`]
  if (zeroPoints) parts.push('zero points')
  if (searchScales) parts.push('scale search')
  return { title: parts.join(', '), bits: bits + (32 + (zeroPoints ? bits : 0)) / block }
}

async function main([
  folder = 'models/tiny-reasoner',
  perSet = '50',
  only = '',
  kvCacheDtype = 'auto',
]: readonly string[]) {
  const dir = resolve(folder)
  const checkpoint = openCheckpoint(dir)
  const { eosTokenIds } = checkpoint.generation
  checkpoint.close()
  const prompts = readPrompts(dir, Number(perSet))
  const adapters = join(root, 'adapters')
  const open = (format: WeightFormat, kvCacheDtype: KvCacheDtype) =>
    openServedModel({ checkpoint: dir, adapters, format, kvCacheDtype, rows, capacity })
  const exact = await open({ kind: 'fp32' }, 'fp32')
  const references = await answer(exact, prompts, eosTokenIds)
  exact.close()
  console.log(
    '| weights | bits | weight error | mean KL | p99 KL | max KL | same token | same answer |',
  )
  console.log('| --- | --- | --- | --- | --- | --- | --- | --- |')
  for (const format of settings.filter((format) => describe(format).title.startsWith(only))) {
    const model = await open(format, kvCacheDtype as KvCacheDtype)
    try {
      const { title, bits } = describe(format)
      const found = await compare(model, prompts, references)
      const share = (value: number) => `${(value * 100).toFixed(2)} %`
      console.log(
        `| ${title} | ${bits.toFixed(2)} | ${share(weightError(dir, format))} | ` +
          `${found.meanKl.toExponential(2)} | ${found.p99Kl.toExponential(1)} | ` +
          `${found.maxKl.toPrecision(2)} | ${share(found.sameTokens)} | ${share(found.sameAnswers)} |`,
      )
    } finally {
      model.close()
    }
  }
  const positions = references.reduce((sum, { tokens }) => sum + tokens.length, 0)
  console.log(`\n${prompts.length} prompts, ${positions} positions.`)
}

await main(process.argv.slice(2))
