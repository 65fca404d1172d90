// All upstreams as one: a request goes to the one that its adapters always go to, so that each adapter lies in
// few of them, unless that one has more than its share; and to the next where one fails before the first token.

import { createHash } from 'node:crypto'
import { type AdapterSet, nameOfSet } from './adapter-content.ts'
import { UpstreamFailure } from './failure.ts'
import type { Call, Upstream, Used } from './upstream.ts'

export interface Pool {
  /** `client` chooses where no adapter does. Rejects as `Upstream.use`. */
  use<T>(
    set: AdapterSet,
    client: string,
    signal: AbortSignal,
    call: (upstream: Upstream) => Call<T>,
  ): Promise<Used<T>>
}

export function createPool(upstreams: readonly Upstream[]): Pool {
  return {
    async use(set, client, signal, call) {
      const open = upstreams.filter(({ isOpen }) => isOpen)
      let failure: unknown = new UpstreamFailure('outage', 'none is up')
      for (const upstream of orderFor(nameOfSet(set) ?? client, open)) {
        try {
          return await upstream.use(set, signal, call(upstream))
        } catch (error) {
          if (signal.aborted || !mayGoOn(error)) throw error
          failure = error
        }
      }
      throw failure
    },
  }
}

/** Another upstream may take what this one did not begin. */
function mayGoOn(error: unknown): boolean {
  return (
    error instanceof UpstreamFailure && ['outage', 'busy', 'unknown_model'].includes(error.kind)
  )
}

interface Candidate {
  readonly url: string
  /** Requests that it has now. */
  readonly load: number
}

/** One may have so many times the mean before others are asked first. */
const mostShare = 1.25

function weightOf(key: string, url: string): bigint {
  return createHash('sha256').update(`${key}\n${url}`).digest().readBigUInt64BE()
}

/** All of them: first those within their share, each part in the order of the key. */
function orderFor<T extends Candidate>(key: string, candidates: readonly T[]): T[] {
  const total = candidates.reduce((sum, { load }) => sum + load, 0)
  const most = Math.ceil((mostShare * (total + 1)) / Math.max(1, candidates.length))
  const weights = new Map(candidates.map((one) => [one, weightOf(key, one.url)]))
  return candidates.toSorted((x, y) => {
    const [isFullX, isFullY] = [x.load >= most, y.load >= most]
    if (isFullX !== isFullY) return isFullX ? 1 : -1
    return weights.get(y)! > weights.get(x)! ? 1 : -1
  })
}
