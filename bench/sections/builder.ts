// The words that sections are written in: engines, cases and comparisons of one shape under the
// run's options.

import type { ShapeName } from '../models/shapes.ts'
import type { WeightType } from '../models/weight-types.ts'
import type { BenchOptions, SectionName } from '../options.ts'
import {
  type Case,
  type Comparison,
  caseIds,
  type PeerName,
  type PeerUse,
  type Section,
  type Target,
} from './section.ts'

export type Builder = ReturnType<typeof createBuilder>

/** One adapter a stream by number, or null for the base. */
type StreamAdapters = ReadonlyArray<number | null>

const noAdapters: StreamAdapters = Array.from({ length: 8 }, () => null)

export function createBuilder(options: BenchOptions, shape: ShapeName) {
  const { promptTokens, decodeTokens } = options

  function makeUse(
    peer: PeerName,
    weights: WeightType | null,
    more: Partial<Pick<PeerUse, 'hasSites' | 'resident'>> = {},
  ): PeerUse {
    return { peer, shape, weights, hasSites: true, resident: 0, ...more }
  }

  function makeCase(use: PeerUse, one: Omit<Case, 'id' | 'use'>): Case {
    const { work, op, args, unit } = one
    return { id: `${shape} ${label(use)} ${work}`, use, work, op, args, unit }
  }

  function decodeCase(use: PeerUse, streams: number, adapters = noAdapters, how = ''): Case {
    const args = { streams, tokens: decodeTokens, past: promptTokens, adapters }
    const work = `decode, ${streams} ${streams === 1 ? 'stream' : 'streams'}${how && `, ${how}`}`
    return makeCase(use, { work, op: 'decode', args, unit: 'tokens/s' })
  }

  function prefillCase(use: PeerUse): Case {
    const args = { tokens: promptTokens, adapter: null }
    const work = `prefill, ${promptTokens} tokens`
    return makeCase(use, { work, op: 'prefill', args, unit: 'tokens/s' })
  }

  function timedCase(
    use: PeerUse,
    work: string,
    op: string,
    args: Readonly<Record<string, unknown>>,
  ): Case {
    return makeCase(use, { work, op, args, unit: 'ms' })
  }

  function runs({ peer }: PeerUse): boolean {
    return peer === 'bandwidth' || peer === 'adapter-store' || options.peers.includes(peer)
  }

  /** Keeps the comparisons whose cases all run: a peer that is filtered out takes its own along. */
  function section(
    name: SectionName,
    title: string,
    allCases: readonly Case[],
    comparisons: readonly Comparison[],
  ): Section {
    const cases = allCases.filter(({ use }) => runs(use))
    const known = new Set(cases.map(({ id }) => id))
    const kept = comparisons.filter((one) => caseIds(one).every((id) => known.has(id)))
    return { name, title, shape, cases: kept.length > 0 ? cases : [], comparisons: kept }
  }

  const bandwidth: Case = {
    id: `${shape} bandwidth`,
    use: makeUse('bandwidth', null),
    work: 'read 1 GiB, best of five',
    op: 'read',
    args: {},
    unit: 'GB/s',
  }
  const torch16 = makeUse('transformers', 'bfloat16')
  const torch32 = makeUse('transformers', 'float32')

  return {
    options,
    shape,
    makeUse,
    decodeCase,
    prefillCase,
    timedCase,
    section,
    bandwidth,
    /** Our engine in a bare loop, by weights. */
    int4: makeUse('dutyfree-c-api', 'int4-128'),
    int4Fine: makeUse('dutyfree-c-api', 'int4-32'),
    int8: makeUse('dutyfree-c-api', 'int8-128'),
    http: makeUse('dutyfree-http', 'int4-128'),
    binding: makeUse('onnxruntime-node', 'int4-128'),
    q4: makeUse('llama.cpp', 'Q4_0'),
    q8: makeUse('llama.cpp', 'Q8_0'),
    /** float32 takes several times as long as everything else. */
    torch: options.isQuick ? [torch16] : [torch16, torch32],
  }
}

export function ratio(
  top: Case,
  bottom: Case,
  what: string,
  target: Target | null = null,
): Comparison {
  return { kind: 'ratio', what, target, top: top.id, bottom: bottom.id }
}

function label({ peer, weights, hasSites, resident }: PeerUse): string {
  return [peer, weights, hasSites ? '' : 'no-sites', resident || ''].filter(Boolean).join(' ')
}
