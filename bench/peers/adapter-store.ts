// Peer adapter-store: the time from an adapter's name to its numbers in memory, read and
// checked, for a shape whose weights are not needed. "Cold" is cold for the server; the operating
// system has the file in its page cache.

import { performance } from 'node:perf_hooks'
import { adapterName } from '../models/random-adapters.ts'
import type { Shape } from '../models/shapes.ts'
import { percentile } from '../statistics.ts'
import { openAdapterStore } from './engine-runner.ts'
import { type Peer, servePeer } from './protocol.ts'

export interface AdapterStoreSpec {
  readonly shape: Shape
  readonly adapterRoot: string
  /** Adapters in the folder. */
  readonly count: number
}

const loadsPerMeasurement = 5

async function open({ shape, adapterRoot, count }: AdapterStoreSpec): Promise<Peer> {
  // Room for one: every acquisition evicts the one before.
  const store = openAdapterStore(shape, adapterRoot)
  let next = 0
  return {
    info: { adapters: count },
    operations: {
      async load() {
        const times: number[] = []
        for (let i = 0; i < loadsPerMeasurement; i++) {
          const id = adapterName(next++ % count)
          const start = performance.now()
          const held = await store.acquire({ adapters: [{ id, scale: null }], required: [] })
          times.push(performance.now() - start)
          held.release()
        }
        return { value: percentile(times, 0.5) }
      },
    },
  }
}

await servePeer(open)
