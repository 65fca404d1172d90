// Peer bandwidth: how fast the memory can be read. ONNX Runtime sums 1 GiB of float32 with as many
// threads as the engines get; no decoding step can read its weights faster.

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { performance } from 'node:perf_hooks'
import { createGraphBuilder } from '../../server/graph/builder.ts'
import { encodeModel, placeWeights } from '../../server/graph/encoding.ts'
import { allocateTensor, openSession } from '../../server/runtime/session.ts'
import { type Peer, servePeer } from './protocol.ts'

export interface BandwidthSpec {
  readonly graphPath: string
  readonly threads: number
}

const side = 1 << 14
const bytes = side * side * Float32Array.BYTES_PER_ELEMENT
const readsPerMeasurement = 5

async function open({ graphPath, threads }: BandwidthSpec): Promise<Peer> {
  const graph = createGraphBuilder()
  const input = graph.input('data', 'float32', [side, side])
  graph.node('sum', 'ReduceSum', [input, graph.constant('int64', [-1])], {
    attributes: { keepdims: 0 },
  })
  graph.output('sum', 'float32', [side])
  const built = graph.build()
  mkdirSync(dirname(graphPath), { recursive: true })
  writeFileSync(graphPath, encodeModel(built, placeWeights(built).placements))
  const session = openSession({ graph: graphPath, threads, accelerator: null })
  const data = allocateTensor('float32', [side, side])
  // Pages that were never written would all be the one page of zeros.
  data.data.fill(1)
  const sum = allocateTensor('float32', [side])
  const binding = session.bind(new Map([['data', data]]), new Map([['sum', sum]]))
  return {
    info: { bytes, threads },
    operations: {
      async read() {
        let best = Number.POSITIVE_INFINITY
        for (let i = 0; i < readsPerMeasurement; i++) {
          const start = performance.now()
          await binding.run()
          best = Math.min(best, performance.now() - start)
        }
        if (sum.data[side - 1] !== side) throw new Error(`the sum is ${sum.data[side - 1]}`)
        return { value: bytes / best / 1e6 }
      },
    },
  }
}

await servePeer(open)
