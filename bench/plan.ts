// What is measured: sections of cases that run interleaved, and the comparisons drawn from them with
// the targets they are held to. Data only; nothing here runs.

import type { ShapeName } from './models/shapes.ts'
import { shapes } from './models/shapes.ts'
import { bytesPerStep, type WeightType } from './models/weight-types.ts'
import type { BenchOptions, ComparedPeer, SectionName } from './options.ts'

export type PeerName = ComparedPeer | 'bandwidth' | 'adapter-store'

/** A process with a loaded model; equal ones are the same process. */
export interface PeerUse {
  readonly peer: PeerName
  readonly shape: ShapeName
  readonly weights: WeightType | null
  /** Whether our graph has places for adapters. */
  readonly hasSites: boolean
  /** Adapters in memory, or 1 where PEFT wraps the model. */
  readonly resident: number
}

export type Unit = 'tokens/s' | 'ms' | 'GB/s'

export interface Case {
  readonly id: string
  readonly use: PeerUse
  /** What is done, as tables show it. */
  readonly work: string
  readonly op: string
  readonly args: Readonly<Record<string, unknown>>
  readonly unit: Unit
}

export type Target =
  | { readonly kind: 'at-least'; readonly value: number }
  | { readonly kind: 'at-most'; readonly value: number }
  /** Within 5 %, or no further off than the rounds are from each other. */
  | { readonly kind: 'about'; readonly value: number }

export type Comparison = {
  readonly what: string
  readonly target: Target | null
} & (
  | { readonly kind: 'ratio'; readonly top: string; readonly bottom: string }
  /** A case's own value. */
  | { readonly kind: 'value'; readonly of: string }
  /** Bytes read per second by decoding over what the memory can give. */
  | {
      readonly kind: 'share'
      readonly of: string
      readonly bandwidth: string
      readonly bytesPerToken: number
    }
)

export interface Section {
  readonly name: SectionName
  readonly title: string
  readonly shape: ShapeName
  readonly cases: readonly Case[]
  readonly comparisons: readonly Comparison[]
}

const atLeast = (value: number): Target => ({ kind: 'at-least', value })
const atMost = (value: number): Target => ({ kind: 'at-most', value })

/** Adapters that the HTTP server finds on disk; the later ones are asked for once each. */
export const httpAdapters = 200
export const firstColdAdapter = 16
/** Adapters of the 7B shape whose loading is timed. */
export const coldShape: ShapeName = 'r1-qwen-7b'
export const coldAdapters = 8

export function planSections(options: BenchOptions): readonly Section[] {
  const sections = options.shapes.flatMap((shape) => planShape(options, shape))
  return sections.filter(({ name, cases }) => options.sections.includes(name) && cases.length > 0)
}

function planShape(options: BenchOptions, shape: ShapeName): readonly Section[] {
  const { streams, promptTokens, decodeTokens } = options
  const has = (peer: PeerName) =>
    peer === 'bandwidth' || peer === 'adapter-store' || options.peers.includes(peer)
  const makeUse = (
    peer: PeerName,
    weights: WeightType | null,
    more: Partial<Pick<PeerUse, 'hasSites' | 'resident'>> = {},
  ): PeerUse => ({ peer, shape, weights, hasSites: true, resident: 0, ...more })
  const none = Array.from({ length: 8 }, () => null)

  const label = ({ peer, weights, hasSites, resident }: PeerUse) =>
    [peer, weights, hasSites ? '' : 'no-sites', resident || ''].filter(Boolean).join(' ')

  function decodeCase(
    use: PeerUse,
    count: number,
    adapters: ReadonlyArray<number | null> = none,
    how = '',
  ): Case {
    const args = { streams: count, tokens: decodeTokens, past: promptTokens, adapters }
    const work = `decode, ${count} ${count === 1 ? 'stream' : 'streams'}${how && `, ${how}`}`
    return { id: `${shape} ${label(use)} ${work}`, use, work, op: 'decode', args, unit: 'tokens/s' }
  }
  function prefillCase(use: PeerUse, adapter: number | null = null): Case {
    const args = { tokens: promptTokens, adapter }
    const work = `prefill, ${promptTokens} tokens`
    return {
      id: `${shape} ${label(use)} ${work}`,
      use,
      work,
      op: 'prefill',
      args,
      unit: 'tokens/s',
    }
  }
  const bandwidth: Case = {
    id: `${shape} bandwidth`,
    use: makeUse('bandwidth', null),
    work: 'read 1 GiB, best of five',
    op: 'read',
    args: {},
    unit: 'GB/s',
  }
  /** Comparisons whose cases all run; a peer that was filtered out takes its own along. */
  function section(
    name: SectionName,
    title: string,
    allCases: readonly Case[],
    comparisons: readonly Comparison[],
  ): Section {
    const cases = allCases.filter(({ use }) => has(use.peer))
    const known = new Set(cases.map(({ id }) => id))
    const isKnown = (comparison: Comparison) => caseIds(comparison).every((id) => known.has(id))
    const kept = comparisons.filter(isKnown)
    return { name, title, shape, cases: kept.length > 0 ? cases : [], comparisons: kept }
  }
  function ratio(top: Case, bottom: Case, what: string, target: Target | null = null): Comparison {
    return { kind: 'ratio', what, target, top: top.id, bottom: bottom.id }
  }

  const ours = makeUse('dutyfree-c-api', 'int4-128')
  const ours32 = makeUse('dutyfree-c-api', 'int4-32')
  const ours8 = makeUse('dutyfree-c-api', 'int8-128')
  const binding = makeUse('onnxruntime-node', 'int4-128')
  const q4 = makeUse('llama.cpp', 'Q4_0')
  const q8 = makeUse('llama.cpp', 'Q8_0')
  const torch16 = makeUse('transformers', 'bfloat16')
  const torch32 = makeUse('transformers', 'float32')
  // float32 takes several times as long as everything else.
  const torch = options.isQuick ? [torch16] : [torch16, torch32]
  const http = makeUse('dutyfree-http', 'int4-128')

  const targetAt = (count: number, one: number, eight: number) =>
    count === 1 ? atLeast(one) : count === 8 ? atLeast(eight) : null
  const share = (use: PeerUse, target: Target | null): Comparison => ({
    kind: 'share',
    what: `share of the memory bandwidth, 1 stream, ${use.weights}`,
    target,
    of: decodeCase(use, 1).id,
    bandwidth: bandwidth.id,
    bytesPerToken: bytesPerStep(shapes[shape], use.weights!),
  })
  const shareTarget = shape === 'r1-qwen-1.5b' ? atLeast(0.75) : null

  const decode4 = section(
    'decode',
    'decode, 4 bits',
    [
      bandwidth,
      ...[ours, ours32, q4, binding].flatMap((use) => streams.map((n) => decodeCase(use, n))),
    ],
    [
      ...streams.flatMap((n) => [
        ...[ours, ours32].map((use) =>
          ratio(
            decodeCase(use, n),
            decodeCase(q4, n),
            `decode, ${n} streams: ${use.weights} over llama.cpp Q4_0`,
            targetAt(n, 1.5, 2.5),
          ),
        ),
        ratio(
          decodeCase(ours, n),
          decodeCase(binding, n),
          `decode, ${n} streams: C API over session.run`,
        ),
      ]),
      share(ours, shareTarget),
      share(ours32, shareTarget),
    ],
  )
  const decode8 = section(
    'decode',
    'decode, 8 bits',
    [bandwidth, ...[ours8, q8].flatMap((use) => streams.map((n) => decodeCase(use, n)))],
    [
      ...streams.map((n) =>
        ratio(
          decodeCase(ours8, n),
          decodeCase(q8, n),
          `decode, ${n} streams: int8-128 over llama.cpp Q8_0`,
          targetAt(n, 1.8, 3.5),
        ),
      ),
      share(ours8, null),
    ],
  )
  const decodeTorch = section(
    'decode',
    'decode, against transformers',
    [ours, ...torch].flatMap((use) => streams.map((n) => decodeCase(use, n))),
    streams.flatMap((n) =>
      torch.map((use) =>
        ratio(
          decodeCase(ours, n),
          decodeCase(use, n),
          `decode, ${n} streams: int4-128 over transformers ${use.weights}`,
        ),
      ),
    ),
  )
  const prefill = section(
    'prefill',
    'prefill',
    [ours, ours32, q4, binding, ours8, q8].map((use) => prefillCase(use)),
    [
      ratio(prefillCase(ours), prefillCase(q4), 'prefill: int4-128 over Q4_0', atLeast(1.2)),
      ratio(prefillCase(ours32), prefillCase(q4), 'prefill: int4-32 over Q4_0', atLeast(1.2)),
      ratio(prefillCase(ours8), prefillCase(q8), 'prefill: int8-128 over Q8_0', atLeast(1.6)),
      ratio(prefillCase(ours), prefillCase(binding), 'prefill: C API over session.run'),
    ],
  )
  const prefillTorch = section(
    'prefill',
    'prefill, against transformers',
    [ours, ...torch].map((use) => prefillCase(use)),
    torch.map((use) =>
      ratio(
        prefillCase(ours),
        prefillCase(use),
        `prefill: int4-128 over transformers ${use.weights}`,
      ),
    ),
  )

  const different = [0, 1, 2, 3, 4, 5, 6, 7]
  const same = different.map(() => 0)
  const held = makeUse('dutyfree-c-api', 'int4-128', { resident: 8 })
  const peft = makeUse('transformers', 'bfloat16', { resident: 1 })
  const oursNone = decodeCase(held, 8, none, 'base')
  const oursOne = decodeCase(held, 8, same, 'one adapter')
  const oursAll = decodeCase(held, 8, different, '8 different adapters')
  const aloneNone = decodeCase(held, 1, none, 'base')
  const aloneOne = decodeCase(held, 1, same, 'one adapter')
  const llamaNone = decodeCase(q4, 8, none, 'base')
  const llamaOne = decodeCase(q4, 8, same, 'one adapter')
  const llamaTurns = decodeCase(q4, 8, different, '8 different adapters in turn')
  const peftOne = decodeCase(peft, 8, same, 'one adapter')
  const adapters = section(
    'adapters',
    'adapters in one batch',
    [oursNone, oursOne, oursAll, aloneNone, aloneOne, llamaNone, llamaOne, llamaTurns, peftOne],
    [
      ratio(oursAll, oursNone, '8 different adapters over 8 rows of base', atLeast(0.97)),
      ratio(oursOne, oursNone, '8 rows of one adapter over 8 rows of base'),
      ratio(aloneOne, aloneNone, '1 row with an adapter over 1 row of base'),
      ratio(oursAll, llamaTurns, '8 different adapters over llama.cpp in turn', atLeast(3.5)),
      ratio(oursOne, llamaOne, '8 rows of one adapter over llama.cpp'),
      ratio(oursOne, peftOne, '8 rows of one adapter over transformers with PEFT'),
    ],
  )

  const spreadOver = (count: number) => different.map((i) => Math.floor((i * count) / 8))
  const residentCase = (count: number) =>
    decodeCase(
      makeUse('dutyfree-c-api', 'int4-128', { resident: count }),
      8,
      spreadOver(count),
      `${count} resident`,
    )
  const [fewest] = options.residents
  const resident = section(
    'resident',
    'adapters resident',
    options.residents.map(residentCase),
    options.residents
      .slice(1)
      .map((count) =>
        ratio(
          residentCase(count),
          residentCase(fewest!),
          `${count} adapters resident over ${fewest}`,
          count === 1000 ? atLeast(0.99) : null,
        ),
      ),
  )

  const bare = makeUse('dutyfree-c-api', 'int4-128', { hasSites: false })
  const sites = section(
    'sites',
    'base requests, with and without places for adapters',
    [ours, bare].flatMap((use) => [decodeCase(use, 1), decodeCase(use, 8), prefillCase(use)]),
    [
      ...[1, 8].map((n) =>
        ratio(
          decodeCase(ours, n),
          decodeCase(bare, n),
          `base, ${n} streams: adapter-ready graph over one without`,
          atLeast(0.98),
        ),
      ),
      ratio(
        prefillCase(ours),
        prefillCase(bare),
        'base, prefill: adapter-ready graph over one without',
      ),
    ],
  )

  const served = section(
    'http',
    'over HTTP, streaming',
    [http, ours, q4].flatMap((use) => [decodeCase(use, 1), decodeCase(use, 8), prefillCase(use)]),
    [1, 8]
      .flatMap((n) => [
        ratio(
          decodeCase(http, n),
          decodeCase(ours, n),
          `${n} streams: HTTP over the bare loop`,
          atLeast(0.95),
        ),
        ratio(
          decodeCase(http, n),
          decodeCase(q4, n),
          `${n} streams: HTTP over llama.cpp's bare loop`,
        ),
      ])
      .concat(
        ratio(
          prefillCase(http),
          prefillCase(ours),
          'prefill: HTTP until the first token over the bare loop',
        ),
      ),
  )

  const timed = (use: PeerUse, work: string, op: string, args: Record<string, unknown>): Case => {
    return { id: `${shape} ${label(use)} ${work}`, use, work, op, args, unit: 'ms' }
  }
  const firstToken = (switches: boolean) =>
    timed(
      http,
      `time to first token, ${switches ? 'switching between two adapters' : 'same adapter'}`,
      'firstToken',
      { count: options.isQuick ? 6 : 12, tokens: 32, switches },
    )
  const gap = (cold: boolean) =>
    timed(
      http,
      `longest gap of 7 streams while a request comes in, adapter ${cold ? 'not yet loaded' : 'resident'}`,
      'gap',
      { streams: 7, tokens: 48, cold },
    )
  const lag = timed(http, 'event-loop lag of the front, 8 streams, p99', 'lag', {
    streams: 8,
    tokens: decodeTokens,
  })
  const store: PeerUse = { ...makeUse('adapter-store', null), shape: coldShape }
  const load = timed(store, `cold load of a rank-1 adapter, ${coldShape} shape`, 'load', {})
  const needsServer = options.peers.includes('dutyfree-http')
  const switching = section(
    'switch',
    'switching and loading',
    needsServer ? [firstToken(false), firstToken(true), gap(false), gap(true), lag, load] : [],
    [
      ratio(firstToken(true), firstToken(false), 'time to first token: switching over staying', {
        kind: 'about',
        value: 1,
      }),
      ratio(gap(true), gap(false), 'longest gap of running streams: cold load over resident'),
      {
        kind: 'value',
        what: `cold load, ${coldShape} shape (ms)`,
        target: atMost(30),
        of: load.id,
      },
      {
        kind: 'value',
        what: 'event-loop lag of the front, p99 (ms)',
        target: atMost(20),
        of: lag.id,
      },
    ],
  )
  return [
    decode4,
    decode8,
    decodeTorch,
    prefill,
    prefillTorch,
    adapters,
    resident,
    sites,
    served,
    switching,
  ]
}

export function caseIds(comparison: Comparison): readonly string[] {
  switch (comparison.kind) {
    case 'ratio':
      return [comparison.top, comparison.bottom]
    case 'value':
      return [comparison.of]
    case 'share':
      return [comparison.of, comparison.bandwidth]
  }
}
