// Section decode: tokens after a prompt, for 1 and more streams in one batch, and the share of the
// memory bandwidth that one stream reaches.

import { shapes } from '../models/shapes.ts'
import { bytesPerStep } from '../models/weight-types.ts'
import { type Builder, ratio } from './builder.ts'
import {
  atLeast,
  type Case,
  type Comparison,
  type PeerUse,
  type Section,
  type Target,
} from './section.ts'

export function decodeSections(builder: Builder): readonly Section[] {
  return [fourBits(builder), eightBits(builder), besideTransformers(builder)]
}

function fourBits(builder: Builder): Section {
  const { int4, int4Fine, q4, binding, bandwidth, shape, decodeCase } = builder
  const { streams } = builder.options
  const shareTarget = shape === 'r1-qwen-1.5b' ? atLeast(0.75) : null
  return builder.section(
    'decode',
    'decode, 4 bits',
    [bandwidth, ...casesOf(builder, [int4, int4Fine, q4, binding])],
    [
      ...streams.flatMap((n) => [
        ...[int4, int4Fine].map((use) =>
          ratio(
            decodeCase(use, n),
            decodeCase(q4, n),
            `decode, ${n} streams: ${use.weights} over llama.cpp Q4_0`,
            targetAt(n, 1.5, 2.5),
          ),
        ),
        ratio(
          decodeCase(int4, n),
          decodeCase(binding, n),
          `decode, ${n} streams: C API over session.run`,
        ),
      ]),
      share(builder, int4, shareTarget),
      share(builder, int4Fine, shareTarget),
    ],
  )
}

function eightBits(builder: Builder): Section {
  const { int8, q8, bandwidth, decodeCase } = builder
  return builder.section(
    'decode',
    'decode, 8 bits',
    [bandwidth, ...casesOf(builder, [int8, q8])],
    [
      ...builder.options.streams.map((n) =>
        ratio(
          decodeCase(int8, n),
          decodeCase(q8, n),
          `decode, ${n} streams: int8-128 over llama.cpp Q8_0`,
          targetAt(n, 1.8, 3.5),
        ),
      ),
      share(builder, int8, null),
    ],
  )
}

function besideTransformers(builder: Builder): Section {
  const { int4, torch, decodeCase } = builder
  return builder.section(
    'decode',
    'decode, against transformers',
    casesOf(builder, [int4, ...torch]),
    builder.options.streams.flatMap((n) =>
      torch.map((use) =>
        ratio(
          decodeCase(int4, n),
          decodeCase(use, n),
          `decode, ${n} streams: int4-128 over transformers ${use.weights}`,
        ),
      ),
    ),
  )
}

function casesOf({ options, decodeCase }: Builder, uses: readonly PeerUse[]): Case[] {
  return uses.flatMap((use) => options.streams.map((n) => decodeCase(use, n)))
}

/** Targets are set for 1 and for 8 streams. */
function targetAt(streams: number, one: number, eight: number): Target | null {
  if (streams === 1) return atLeast(one)
  return streams === 8 ? atLeast(eight) : null
}

function share(builder: Builder, use: PeerUse, target: Target | null): Comparison {
  return {
    kind: 'share',
    what: `share of the memory bandwidth, 1 stream, ${use.weights}`,
    target,
    of: builder.decodeCase(use, 1).id,
    bandwidth: builder.bandwidth.id,
    bytesPerToken: bytesPerStep(shapes[builder.shape], use.weights!),
  }
}
