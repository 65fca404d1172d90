// All upstreams as one: a request goes to the one that its adapters always go to, so that each adapter lies in
// few of them, unless that one has more than its share; and to the next where one fails before the first token.

import { createHash } from 'node:crypto'
import { ServerError } from '../errors.ts'
import { type AdapterSet, nameOfSet } from './adapter-content.ts'
import { mayBeAskedAgain, UpstreamFailure } from './failure.ts'
import type { Call, Upstream, Used } from './upstream.ts'

export interface Pool {
  /** `client` chooses where no adapter does. Rejects as `Upstream.use`. */
  use<T>(
    set: AdapterSet,
    client: string,
    signal: AbortSignal,
    call: (upstream: Upstream) => Call<T>,
  ): Promise<Used<T>>
  /** Nobody asks for this version of an adapter any more. */
  retire(digest: string): void
}

/** A request on which so many fail, each in good health, is at fault itself. */
const mostFailing = 2

export function createPool(upstreams: readonly Upstream[]): Pool {
  return {
    async use(set, client, signal, call) {
      const open = upstreams.filter(({ isOpen }) => isOpen)
      let failure: unknown = new UpstreamFailure('outage', 'none is up')
      const failing: Upstream[] = []
      for (const upstream of orderFor(nameOfSet(set) ?? client, open)) {
        try {
          const used = await upstream.use(set, signal, call(upstream))
          for (const other of failing) other.blame()
          return used
        } catch (error) {
          const isWell = failsInGoodHealth(error)
          const mayGoOn = isWell || (error instanceof UpstreamFailure && mayBeAskedAgain(error))
          if (signal.aborted || !mayGoOn) throw error
          // What it does to one upstream it may do to all.
          if (failing.length === 0) failure = error
          if (isWell) failing.push(upstream)
          if (failing.length === mostFailing) break
        }
      }
      throw failure
    },
    retire(digest) {
      for (const { registry } of upstreams) registry.retire(digest)
    },
  }
}

/** Of this call, or of this adapter there: one that is being shut down loads none. */
function failsInGoodHealth(error: unknown): boolean {
  if (error instanceof ServerError) return error.code === 'adapter_unavailable'
  return error instanceof UpstreamFailure && error.kind === 'failed'
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
