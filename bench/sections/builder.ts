// The words that sections are written in: engines, cases and comparisons of one shape under the
// run's options.

import type { ShapeName } from '../models/shapes.ts'
import type { WeightType } from '../models/weight-types.ts'
import type { BenchOptions, ComparedPeer, SectionName } from '../options.ts'
import {
  type Case,
  type Comparison,
  caseIds,
  type PeerName,
  type PeerUse,
  type Section,
  type Target,
} from './section.ts'
import { countStreams } from './targets.ts'

export type Builder = ReturnType<typeof createBuilder>

/** One adapter a stream by number, or null for the base. */
type StreamAdapters = ReadonlyArray<number | null>

const noAdapters: StreamAdapters = Array.from({ length: 32 }, () => null)

/** Beside the weights of ours, 4.2 GB, those of one more fit into 24 GiB. */
const largePeers: readonly ComparedPeer[] = ['dutyfree-c-api', 'llama.cpp']

/** What of a run's options is for this shape: a large one leaves out what would take hours. */
function optionsFor(options: BenchOptions, shape: ShapeName): BenchOptions {
  if (shape !== 'r1-qwen-7b') return options
  return {
    ...options,
    peers: options.peers.filter((peer) => largePeers.includes(peer)),
    streams: options.streams.filter((count) => count === 1 || count === 8),
    decodeTokens: Math.min(options.decodeTokens, 32),
  }
}

export function createBuilder(whole: BenchOptions, shape: ShapeName, instructionSet: string) {
  const options = optionsFor(whole, shape)
  const { promptTokens, decodeTokens } = options

  function makeUse(
    peer: PeerName,
    weights: WeightType | null,
    more: Partial<Pick<PeerUse, 'hasSites' | 'resident' | 'rows' | 'capacity'>> = {},
  ): PeerUse {
    return { peer, shape, weights, hasSites: true, resident: 0, ...more }
  }

  function makeCase(use: PeerUse, one: Omit<Case, 'id' | 'use'>): Case {
    const { work, op, args, unit } = one
    return { id: `${shape} ${label(use)} ${work}`, use, work, op, args, unit }
  }

  function decodeCase(use: PeerUse, streams: number, adapters = noAdapters, how = ''): Case {
    const args = { streams, tokens: decodeTokens, past: promptTokens, adapters }
    const work = `decode, ${countStreams(streams)}${how && `, ${how}`}`
    return makeCase(use, { work, op: 'decode', args, unit: 'tokens/s' })
  }

  function prefillCase(use: PeerUse, tokens = promptTokens, adapter: number | null = null): Case {
    const args = { tokens, adapter }
    const work = `prefill, ${tokens} tokens${adapter === null ? '' : ', one adapter'}`
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
    const kept = comparisons
      .map((one): Comparison => {
        if (one.kind !== 'best') return one
        return { ...one, peers: one.peers.filter((id) => known.has(id)) }
      })
      .filter((one) => one.kind !== 'best' || one.peers.length > 0)
      .filter((one) => caseIds(one).every((id) => known.has(id)))
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
    instructionSet,
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
    binding8: makeUse('onnxruntime-node', 'int8-128'),
    openvino4: makeUse('openvino', 'int4-128 f16'),
    openvino8: makeUse('openvino', 'int8-128 f16'),
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

/** Over the fastest of the peers; none that holds fewer bits a value than ours is named. */
export function overBest(
  top: Case,
  peers: readonly Case[],
  what: string,
  target: Target | null = null,
): Comparison {
  return { kind: 'best', what, target, top: top.id, peers: peers.map(({ id }) => id) }
}

function label({ peer, weights, hasSites, resident }: PeerUse): string {
  return [peer, weights, hasSites ? '' : 'no-sites', resident || ''].filter(Boolean).join(' ')
}
