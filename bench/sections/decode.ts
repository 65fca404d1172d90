// Section decode: tokens after a prompt, for 1 and more streams in one batch, and the share of the
// memory bandwidth that one stream reaches.

import { shapes } from '../models/shapes.ts'
import { bytesPerStep } from '../models/weight-types.ts'
import { type Builder, overBest, ratio } from './builder.ts'
import type { Case, Comparison, PeerUse, Section, Target } from './section.ts'
import { countStreams, streamTarget, targetFor } from './targets.ts'

/** More streams are a section of their own: a cache of so many rows is another process. */
const usualStreams = 8

export function decodeSections(builder: Builder): readonly Section[] {
  const { shape, options } = builder
  const wide = options.streams.filter((count) => count > usualStreams)
  return [
    fourBits(builder),
    ...(shape === 'r1-qwen-7b' ? [] : [eightBits(builder)]),
    ...wide.map((count) => manyStreams(builder, count)),
  ]
}

function fourBits(builder: Builder): Section {
  const { int4, int4Fine, q4, openvino4, binding, torch, bandwidth, decodeCase } = builder
  const { instructionSet } = builder
  const isLarge = builder.shape === 'r1-qwen-7b'
  const peers = [q4, openvino4, binding, ...torch]
  const ours = isLarge ? [int4] : [int4, int4Fine]
  return builder.section(
    'decode',
    'decode, 4 bits',
    [bandwidth, ...casesOf(builder, [...ours, ...peers])],
    [
      ...usual(builder).flatMap((n) => [
        overBest(
          decodeCase(int4, n),
          peers.map((use) => decodeCase(use, n)),
          `decode, ${countStreams(n)}: int4-128 over the best peer`,
          streamTarget(instructionSet, 'int4', n),
        ),
        ratio(
          decodeCase(int4Fine, n),
          decodeCase(q4, n),
          `decode, ${countStreams(n)}: int4-32 over llama.cpp Q4_0`,
          streamTarget(instructionSet, 'blocks of 32', n),
        ),
      ]),
      share(builder, int4, targetFor(instructionSet, 'int4, share of bandwidth')),
      share(builder, int4Fine, null),
    ],
  )
}

function eightBits(builder: Builder): Section {
  const { int8, q8, openvino8, binding8, bandwidth, decodeCase, instructionSet } = builder
  const peers = [q8, openvino8, binding8]
  return builder.section(
    'decode',
    'decode, 8 bits',
    [bandwidth, ...casesOf(builder, [int8, ...peers])],
    [
      ...usual(builder).map((n) =>
        overBest(
          decodeCase(int8, n),
          peers.map((use) => decodeCase(use, n)),
          `decode, ${countStreams(n)}: int8-128 over the best peer`,
          streamTarget(instructionSet, 'int8', n),
        ),
      ),
      share(builder, int8, null),
    ],
  )
}

/** A batch of many streams, of the base and of as many different adapters. */
function manyStreams(builder: Builder, streams: number): Section {
  const { makeUse, decodeCase, instructionSet } = builder
  const wide = { rows: streams }
  const ours = makeUse('dutyfree-c-api', 'int4-128', { ...wide, resident: streams })
  const peers = [
    makeUse('llama.cpp', 'Q4_0', wide),
    makeUse('openvino', 'int4-128 f16', wide),
    makeUse('onnxruntime-node', 'int4-128', wide),
  ].map((use) => decodeCase(use, streams))
  const base = decodeCase(ours, streams)
  const different = Array.from({ length: streams }, (_, index) => index)
  const adapted = decodeCase(ours, streams, different, `${streams} different adapters`)
  return builder.section(
    'decode',
    `decode, ${streams} streams`,
    [base, adapted, ...peers],
    [
      overBest(
        base,
        peers,
        `decode, ${streams} streams: int4-128 over the best peer`,
        streamTarget(instructionSet, 'int4', streams),
      ),
      ratio(
        adapted,
        base,
        `${streams} different adapters over ${streams} rows of base`,
        streams === 32 ? targetFor(instructionSet, '32 adapters over base') : null,
      ),
    ],
  )
}

function usual({ options }: Builder): number[] {
  return options.streams.filter((count) => count <= usualStreams)
}

function casesOf(builder: Builder, uses: readonly PeerUse[]): Case[] {
  return uses.flatMap((use) => usual(builder).map((n) => builder.decodeCase(use, n)))
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
