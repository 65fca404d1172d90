// How long running streams stand still while a long prompt comes in, with chunks of a fixed size
// and with chunks paced to a target. The bare engine on a checkpoint folder, int4.
//   node dist/bench/tools/prefill-gap.js <checkpoint> [cache folder]

import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import { isTerminal } from '../../server/contracts/generation.ts'
import { convertCheckpoint } from '../../server/conversion/convert.ts'
import { createDeferred } from '../../server/engine-client/deferred.ts'
import { firstShape } from '../../server/loop/kv-shape.ts'
import { createLoop } from '../../server/loop/loop.ts'
import { createRunner } from '../../server/model/runner.ts'
import { createRequest, createTestSequence } from '../../test/support/scripted-model.ts'

const numStreams = 4
const promptLength = 4000
const maxChunk = 512
const format = {
  kind: 'quantized',
  bits: 4,
  block: 128,
  zeroPoints: false,
  searchScales: true,
} as const
const limits = { maxRows: 8, maxCapacity: 8192, maxPositions: 8 * 8192 }

const [dir, cacheDir = 'runs/bench-cache'] = process.argv.slice(2)
if (dir === undefined) {
  console.error('usage: prefill-gap <checkpoint> [cache folder]')
  process.exit(2)
}
const checkpoint = openCheckpoint(dir)
const { config } = checkpoint
const sites = ['up_proj'] as const
const maxContext = limits.maxCapacity
const { graphPath } = await convertCheckpoint({
  dir,
  checkpoint,
  maxContext,
  format,
  sites,
  cacheDir,
})
checkpoint.close()

/** Gaps between two tokens of the streams while the prompt is prefilled, in ms. */
async function measure(targetGapMs: number) {
  const shape = firstShape(limits)
  const runner = createRunner({
    graphPath,
    config,
    threads: 0,
    rows: limits.maxRows,
    shape,
    sites,
    maxChunk,
  })
  const { vocabSize } = config
  const gaps: number[] = []
  const chunks: number[] = []
  const lastTokenAt = new Map<string, number>()
  const streamsAreOn = createDeferred<void>()
  const promptIsDone = createDeferred<number>()
  let promptAt = Number.POSITIVE_INFINITY
  let isDone = false

  const loop = createLoop({
    guard: null,
    runner: {
      ...runner,
      prefill: (input) => {
        if (input.tokens.length > 64 || promptAt < Number.POSITIVE_INFINITY) {
          chunks.push(input.tokens.length)
        }
        return runner.prefill(input)
      },
    },
    limits,
    vocabSize,
    maxChunk,
    targetGapMs,
    now: () => performance.now(),
    idle: { start: () => {}, stop: () => {} },
    publish: (events) => {
      const now = performance.now()
      for (const [id, event] of events) {
        if (isTerminal(event)) continue
        if (event.kind !== 'delta') continue
        if (id === 'prompt') {
          if (!isDone) promptIsDone.resolve(now - promptAt)
          isDone = true
          continue
        }
        const last = lastTokenAt.get(id)
        if (last !== undefined && now > promptAt && !isDone) gaps.push(now - last)
        lastTokenAt.set(id, now)
        if (lastTokenAt.size === numStreams) streamsAreOn.resolve()
      }
    },
  })

  function submit(id: string, promptTokens: readonly number[], maxTokens: number): void {
    const request = createRequest({ id, maxTokens, sampling: { ignoreEos: true } })
    const sequence = createTestSequence(request, { promptTokens, maxTokens, eosTokenIds: [] })
    loop.submit({ id, sequences: [sequence], adapterIds: [], release() {} })
  }

  function ids(seed: number, count: number) {
    return Array.from({ length: count }, (_, i) => (seed * 7919 + i * 104_729) % config.vocabSize)
  }

  for (let i = 0; i < numStreams; i++) submit(`stream ${i}`, ids(i + 1, 64), 4000)
  await streamsAreOn.promise
  promptAt = performance.now()
  submit('prompt', ids(99, promptLength), 1)
  const promptMs = await promptIsDone.promise
  for (let i = 0; i < numStreams; i++) loop.cancel(`stream ${i}`)
  while (loop.stats().running > 0) await new Promise((resolve) => setImmediate(resolve))
  runner.release()
  gaps.sort((x, y) => x - y)
  function at(share: number) {
    return Math.round(gaps[Math.floor(share * (gaps.length - 1))] ?? 0)
  }

  const smallest = Math.min(...chunks)
  const largest = Math.max(...chunks)
  return (
    `gap p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)} ms; ` +
    `first token of the prompt after ${Math.round(promptMs)} ms; ` +
    `${chunks.length} chunks of ${smallest}–${largest} tokens`
  )
}

for (const target of [Number.POSITIVE_INFINITY, 250]) {
  const name = target === Number.POSITIVE_INFINITY ? `chunks of ${maxChunk}` : `target ${target} ms`
  console.log(`${name}: ${await measure(target)}`)
}
