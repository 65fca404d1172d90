// Peer onnxruntime-node: the same weights and graph, of ONNX Runtime's own operators, through the
// binding's own session.run, as its users run a decoder: every step's keys and values come back as
// new tensors and are given to the next step.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { performance } from 'node:perf_hooks'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { moduleShape } from '../../server/contracts/checkpoint.ts'
import { adapterA, adapterB } from '../../server/graph/adapter-site.ts'
import { pastKey, pastValue, presentKey, presentValue } from '../../server/graph/decoder.ts'
import type { EnginePeerSpec } from './engine.ts'
import { ensureGraph } from './engine-runner.ts'
import {
  type DecodeArgs,
  type Peer,
  type PrefillArgs,
  randomTokens,
  servePeer,
} from './protocol.ts'

type Feeds = Record<string, Tensor>

async function open(spec: EnginePeerSpec): Promise<Peer> {
  // The binding knows ONNX Runtime's own operators only.
  const { path, config } = await ensureGraph({ ...spec, kernels: 'onnxruntime' })
  const session = await InferenceSession.create(path, {
    intraOpNumThreads: spec.threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
  })
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer)
  /** No row is adapted: zeros. */
  function adapters(rows: number): Feeds {
    const feeds: Feeds = {}
    for (const layer of layers) {
      for (const module of spec.sites) {
        const { inner, outer } = moduleShape(config, module)
        const a = new Float32Array(rows * inner)
        const b = new Float32Array(rows * outer)
        feeds[adapterA(layer, module)] = new Tensor('float32', a, [rows, inner, 1])
        feeds[adapterB(layer, module)] = new Tensor('float32', b, [rows, 1, outer])
      }
    }
    return feeds
  }

  function emptyCache(rows: number, length: number): Feeds {
    const dims = [rows, config.numKvHeads, length, config.headDim]
    const size = dims.reduce((product, dim) => product * dim, 1)
    function tensor() {
      return new Tensor('float32', new Float32Array(size).fill(0.01), dims)
    }

    return Object.fromEntries(
      layers.flatMap((layer) => [
        [pastKey(layer), tensor()],
        [pastValue(layer), tensor()],
      ]),
    )
  }

  /** Runs `tokens` on every row after `past`; returns the cache with them in it. */
  async function step(
    adapterFeeds: Feeds,
    cache: Feeds,
    tokens: readonly number[][],
    past: number,
  ): Promise<Feeds> {
    const rows = tokens.length
    const length = tokens[0]!.length
    const total = past + length
    const outputs = await session.run({
      ...adapterFeeds,
      ...cache,
      input_ids: new Tensor('int64', BigInt64Array.from(tokens.flat().map(BigInt)), [rows, length]),
      seqlens_k: new Tensor('int32', new Int32Array(rows).fill(total - 1), [rows]),
      total_sequence_length: new Tensor('int32', Int32Array.of(total), []),
      first_logits: new Tensor('int64', BigInt64Array.of(-1n), [1]),
      wanted_tokens: new Tensor('int64', BigInt64Array.of(-1n), [1]),
    })
    return Object.fromEntries(
      layers.flatMap((layer) => [
        [pastKey(layer), outputs[presentKey(layer)] as Tensor],
        [pastValue(layer), outputs[presentValue(layer)] as Tensor],
      ]),
    )
  }

  const packageJson = createRequire(import.meta.url).resolve('onnxruntime-node/package.json')
  const { version } = JSON.parse(readFileSync(packageJson, 'utf8'))
  return {
    info: { 'onnxruntime-node': version, threads: spec.threads },
    operations: {
      async prefill({ tokens }: PrefillArgs) {
        const cache = emptyCache(1, 0)
        const adapterFeeds = adapters(1)
        const input = [randomTokens(tokens)]
        const start = performance.now()
        await step(adapterFeeds, cache, input, 0)
        return { ms: performance.now() - start, tokens }
      },
      async decode({ streams, tokens, past }: DecodeArgs) {
        let cache = emptyCache(streams, past)
        const adapterFeeds = adapters(streams)
        const start = performance.now()
        for (let i = 0; i < tokens; i++) {
          const input = Array.from({ length: streams }, (_, row) => [1000 + i + row])
          cache = await step(adapterFeeds, cache, input, past + i)
        }
        return { ms: performance.now() - start, tokens: streams * tokens }
      },
    },
  }
}

await servePeer(open)
