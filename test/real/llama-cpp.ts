// Next-token logits of llama.cpp for given tokens, through node-llama-cpp in bench/peers.

import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from '../support/root.ts'

/** What is used of the library; its version is pinned, so this holds. */
interface Sequence {
  readonly nextTokenIndex: number
  eraseContextTokenRanges(ranges: readonly { start: number; end: number }[]): Promise<void>
  controlledEvaluate(
    input: readonly (number | readonly [token: number, options: object])[],
  ): Promise<readonly ({ next: { logits: ReadonlyMap<number, number> } } | undefined)[]>
}

const wantsLogits = { generateNext: { logits: true, options: { temperature: 0 } } }

/** Of each sequence, the logits after each of its tokens from the place `from` on. */
export async function llamaLogits(
  modelPath: string,
  sequences: readonly { readonly tokens: readonly number[]; readonly from: number }[],
): Promise<Float32Array[][]> {
  const require = createRequire(join(root, 'bench', 'peers', 'package.json'))
  const library = await import(pathToFileURL(require.resolve('node-llama-cpp')).href)
  const llama = await library.getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    // Threads that wait for one another lose most of a machine that others use too.
    maxThreads: 1,
    logLevel: 'error',
  })
  try {
    const model = await llama.loadModel({ modelPath, gpuLayers: 0 })
    const context = await model.createContext({
      sequences: 1,
      contextSize: 256,
      batchSize: 256,
      threads: { ideal: 1, min: 1 },
    })
    const sequence: Sequence = context.getSequence()
    const found: Float32Array[][] = []
    for (const { tokens, from } of sequences) {
      await sequence.eraseContextTokenRanges([{ start: 0, end: sequence.nextTokenIndex }])
      const input = tokens.map((token, i) => (i < from ? token : ([token, wantsLogits] as const)))
      const outputs = await sequence.controlledEvaluate(input)
      found.push(outputs.slice(from).map((output) => toLogits(output!.next.logits)))
    }
    return found
  } finally {
    await llama.dispose()
  }
}

function toLogits(values: ReadonlyMap<number, number>): Float32Array {
  const logits = new Float32Array(values.size)
  for (const [token, value] of values) logits[token] = value
  return logits
}
