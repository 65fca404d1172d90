// A checkpoint opened as the engine opens it, down to the runner, for tests of numbers.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createBank } from '../../server/adapters/bank.ts'
import { createAdapterStore } from '../../server/adapters/store.ts'
import { openCheckpoint } from '../../server/model/checkpoint.ts'
import { convertCheckpoint } from '../../server/model/convert.ts'
import { type Component, createRunner } from '../../server/model/runner.ts'

export interface ServedModelOptions {
  readonly checkpoint: string
  readonly adapters: string
  readonly rows?: number
  readonly capacity?: number
  readonly threads?: number
}

export function openServedModel({
  checkpoint: dir,
  adapters,
  rows = 8,
  capacity = 256,
  threads = 1,
}: ServedModelOptions) {
  const cacheDir = mkdtempSync(join(tmpdir(), 'dutyfree-test-'))
  const checkpoint = openCheckpoint(dir)
  const { config } = checkpoint
  const graphPath = convertCheckpoint({
    config,
    tensors: checkpoint.tensors,
    files: checkpoint.files.map(({ path }) => path),
    maxContext: capacity,
    cacheDir,
  })
  checkpoint.close()
  const slots = 17
  const runner = createRunner({
    graphPath,
    config,
    threads,
    rows,
    capacity,
    slots,
    maxChunk: 128,
    maxComponents: 4,
  })
  const bank = createBank({
    numSlots: slots,
    numLayers: config.numLayers,
    hiddenSize: config.hiddenSize,
    intermediateSize: config.intermediateSize,
    ...runner.bankViews,
  })
  const store = createAdapterStore({ root: adapters, modelConfig: config, bank, maxRankPerRow: 4 })

  return {
    config,
    runner,
    store,
    /** Bank components of adapters at the given strengths. */
    async components(strengths: Readonly<Record<string, number>>): Promise<Component[]> {
      const refs = Object.entries(strengths).map(([id, scale]) => ({ id, scale }))
      const held = await store.acquire(refs)
      return held.slots.map((slot, i) => ({ slot, scale: held.scales[i] as number }))
    },
    /** The token with the largest logit continued `count` times, alone in row 0. */
    async greedy(prompt: readonly number[], components: readonly Component[], count: number) {
      let logits = await runner.prefill({ row: 0, tokens: prompt, past: 0, components })
      const tokens: number[] = []
      const gaps: number[] = []
      for (let step = 0; step < count; step++) {
        const { token, gap } = topTwo(logits)
        tokens.push(token)
        gaps.push(gap)
        logits = await runner.decode([{ token, past: prompt.length + step, components }])
      }
      return { tokens, gaps }
    },
    close(): void {
      runner.release()
      rmSync(cacheDir, { recursive: true, force: true })
    },
  }
}

export function topTwo(logits: Float32Array): { token: number; gap: number } {
  let token = 0
  for (const [id, logit] of logits.entries()) if (logit > (logits[token] as number)) token = id
  let second = Number.NEGATIVE_INFINITY
  for (const [id, logit] of logits.entries()) if (id !== token && logit > second) second = logit
  return { token, gap: (logits[token] as number) - second }
}
