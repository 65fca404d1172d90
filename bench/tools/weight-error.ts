// What quantised weights change, per setting, on a reasoner's own held-out prompts: the float32
// model's greedy answers are fed to each setting token by token, and its next-token distributions
// are compared. Prints a table as Markdown. Needs training/.venv, which `npm test` makes.
//   node dist/bench/tools/weight-error.js [models/tiny-reasoner] [prompts per set, 50]
//     ["stored; int8, block 128": only these] [fp16: of keys and values, auto] [tokens an answer, 200]
// "rounded Q4_0", and so on for every type of weights in models/weight-types.ts, is the rounding by
// itself: float32 computes with what the rounded numbers stand for.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import { expectedTensors } from '../../server/checkpoint/checkpoint-tensors.ts'
import type { WeightFormat } from '../../server/contracts/checkpoint.ts'
import type { KvCacheDtype } from '../../server/contracts/engine.ts'
import type { ChatMessage } from '../../server/contracts/generation.ts'
import { dequantizeRows, quantizeRows } from '../../server/graph/quantize.ts'
import { loadChatTemplate } from '../../server/tokenizer/chat-template.ts'
import { loadTokenizer } from '../../server/tokenizer/tokenizer.ts'
import { python } from '../../test/support/python.ts'
import { root } from '../../test/support/root.ts'
import { openServedModel } from '../../test/support/served-model.ts'
import { writeRoundedCheckpoint } from '../models/rounded-checkpoint.ts'
import { type WeightType, weightTypes } from '../models/weight-types.ts'
import { answer, type Comparison, compare, mostTokens, type Prompt, rows } from './answers.ts'
import { chosen, ownFormats, quantizedFormats, titleOf } from './weight-formats.ts'

const capacity = 512

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

/** Root mean square of what rounding changes, over that of the weights: all matrices as one. */
function weightError(dir: string, format: WeightFormat): number {
  if (format.kind !== 'quantized') return 0
  const checkpoint = openCheckpoint(dir)
  const { tensors, config } = checkpoint
  let [error, whole] = [0, 0]
  for (const [name, shape] of expectedTensors(config)) {
    if (shape.length !== 2) continue
    const options = { ...format, columns: shape[1]! }
    const values = tensors.read(name)
    for (const [i, value] of dequantizeRows(quantizeRows(values, options), options).entries()) {
      error += (value - values[i]!) ** 2
      whole += values[i]! ** 2
    }
  }
  checkpoint.close()
  return Math.sqrt(error / whole)
}

/** Bits that a weight takes; what stored ones take depends on the file. */
function bitsOf(format: WeightFormat): string {
  if (format.kind === 'stored') return '–'
  if (format.kind !== 'quantized') return '32'
  const { bits, block, zeroPoints } = format
  return (bits + (32 + (zeroPoints ? bits : 0)) / block).toFixed(2)
}

function showShare(value: number): string {
  return `${(value * 100).toFixed(2)} %`
}

function showRow(title: string, bits: string, error: string, found: Comparison): string {
  const { meanKl, p99Kl, maxKl, sameTokens, sameAnswers } = found
  return (
    `| ${title} | ${bits} | ${error} | ${meanKl.toExponential(2)} | ${p99Kl.toExponential(1)} | ` +
    `${maxKl.toPrecision(2)} | ${showShare(sameTokens)} | ${showShare(sameAnswers)} |`
  )
}

/** Those that the list of titles names. */
function roundedTypes(titles: string): WeightType[] {
  const wanted = titles.split(';').map((title) => title.trim())
  const types = Object.keys(weightTypes) as WeightType[]
  return types.filter((type) => wanted.includes(`rounded ${type}`))
}

async function main([
  folder = 'models/tiny-reasoner',
  perSet = '50',
  only = '',
  kvCacheDtype = 'auto',
  tokens = String(mostTokens),
]: readonly string[]) {
  const dir = resolve(folder)
  const checkpoint = openCheckpoint(dir)
  const { eosTokenIds } = checkpoint.generation
  checkpoint.close()
  const prompts = readPrompts(dir, Number(perSet))
  const adapters = join(root, 'adapters')
  function open(format: WeightFormat, kvCacheDtype: KvCacheDtype) {
    return openServedModel({ checkpoint: dir, adapters, format, kvCacheDtype, rows, capacity })
  }

  const exact = await open({ kind: 'fp32' }, 'fp32')
  const references = await answer(exact, prompts, eosTokenIds, Number(tokens))
  exact.close()
  console.log(
    '| weights | bits | weight error | mean KL | p99 KL | max KL | same token | same answer |',
  )
  console.log('| --- | --- | --- | --- | --- | --- | --- | --- |')
  const all: readonly WeightFormat[] = [
    { kind: 'fp32' },
    ...ownFormats(dir),
    ...quantizedFormats(false),
    ...quantizedFormats(true),
  ]
  for (const type of roundedTypes(only)) {
    const folder = mkdtempSync(join(tmpdir(), 'dutyfree-rounded-'))
    try {
      writeRoundedCheckpoint(dir, type, folder)
      const options = { adapters, rows, capacity, kvCacheDtype: 'fp32' } as const
      const model = await openServedModel({ checkpoint: folder, ...options })
      const found = await compare(model, prompts, references)
      model.close()
      console.log(showRow(`rounded ${type}`, String(weightTypes[type].bits), '', found))
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
  for (const format of chosen(all, only)) {
    const model = await open(format, kvCacheDtype as KvCacheDtype)
    try {
      const found = await compare(model, prompts, references)
      const error = showShare(weightError(dir, format))
      console.log(showRow(titleOf(format), bitsOf(format), error, found))
    } finally {
      model.close()
    }
  }
  const positions = references.reduce((sum, { tokens }) => sum + tokens.length, 0)
  console.log(`\n${prompts.length} prompts, ${positions} positions.`)
}

await main(process.argv.slice(2))
