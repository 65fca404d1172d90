// Peer dutyfree-c-api: our graph through ONNX Runtime's C API in a bare loop, the ceiling of what
// the server can reach. Nothing is sampled; tokens are made up.

import { performance } from 'node:perf_hooks'
import { type EngineSpec, openEngineRunner } from './engine-runner.ts'
import {
  type DecodeArgs,
  type Peer,
  type PrefillArgs,
  randomTokens,
  servePeer,
} from './protocol.ts'

export interface EnginePeerSpec extends EngineSpec {
  /** Length of the prompt that every row begins with. */
  readonly past: number
}

async function open(spec: EnginePeerSpec): Promise<Peer> {
  const engine = await openEngineRunner(spec)
  const prompt = randomTokens(spec.past)
  let numFilled = 0
  /** Only rows that decode need the prompt; all have the same, so one is computed and copied. */
  async function fill(streams: number): Promise<void> {
    for (; numFilled < streams; numFilled++) {
      if (numFilled === 0) await engine.prefill(0, prompt, 0, null)
      else engine.copyRow(0, numFilled, prompt.length)
    }
  }
  return {
    info: { threads: spec.threads },
    operations: {
      async prefill({ tokens, adapter }: PrefillArgs) {
        const input = randomTokens(tokens)
        const start = performance.now()
        await engine.prefill(0, input, 0, adapter)
        return { ms: performance.now() - start, tokens }
      },
      async decode({ streams, tokens, past, adapters }: DecodeArgs) {
        await fill(streams)
        async function decode(step: number): Promise<void> {
          await engine.decode(
            Array.from({ length: streams }, (_, row) => ({
              token: 1000 + step + row,
              past: past + step,
              adapter: adapters[row] ?? null,
            })),
          )
        }
        await decode(0) // All rows and their adapters come together, which they do not in use.
        const start = performance.now()
        for (let step = 0; step < tokens; step++) await decode(step)
        return { ms: performance.now() - start, tokens: streams * tokens }
      },
    },
    close: () => engine.release(),
  }
}

await servePeer(open)
