// What the comparisons must reach, over the best peer of the same run, by the processor's strongest
// instruction set.

import { atLeast, type Target } from './section.ts'

/** AVX-512 with VNNI, with or without AMX; and AVX2. */
const columns = ['avx512', 'avx2'] as const
type Column = (typeof columns)[number]

const columnOf: Readonly<Record<string, Column>> = {
  amx: 'avx512',
  'avx512-vnni': 'avx512',
  avx2: 'avx2',
  'avx-vnni': 'avx2',
}

const least = {
  'int4, 1 stream': { avx512: 1.15, avx2: 1.8 },
  'int4, 8 streams': { avx512: 2.5, avx2: 2.6 },
  'int4, 32 streams': { avx512: 3, avx2: 3 },
  'int4, share of bandwidth': { avx512: 0.9, avx2: 0.9 },
  'int8, 1 stream': { avx512: 1.1, avx2: 1.5 },
  'int8, 8 streams': { avx512: 2.5, avx2: 2.8 },
  'prefill, int4': { avx512: 1.5, avx2: 1.9 },
  'prefill, int8': { avx512: 1.5, avx2: 1.6 },
  'blocks of 32, 1 stream': { avx512: 1, avx2: 1.37 },
  'blocks of 32, 8 streams': { avx512: 2, avx2: 2.15 },
  'blocks of 32, prefill': { avx512: 1.2, avx2: 1.37 },
  '8 adapters over base': { avx512: 0.98, avx2: 0.98 },
  '32 adapters over base': { avx512: 0.97, avx2: 0.97 },
  '8 adapters over vLLM': { avx512: 4, avx2: 4 },
  'first token over vLLM': { avx512: 1, avx2: null },
  'HTTP, 1 stream': { avx512: 0.95, avx2: 0.95 },
  'HTTP, 8 streams': { avx512: 0.92, avx2: 0.9 },
} as const satisfies Record<string, Readonly<Record<Column, number | null>>>

export type TargetName = keyof typeof least

/** null where nothing is set for such a processor. */
export function targetFor(instructionSet: string, name: TargetName): Target | null {
  const column = columnOf[instructionSet]
  const value = column && least[name][column]
  return value ? atLeast(value) : null
}

/** "1 stream", "8 streams": as targets and tables say it. */
export function countStreams(streams: number): string {
  return `${streams} ${streams === 1 ? 'stream' : 'streams'}`
}

/** Targets are set for 1, 8 and, with int4, 32 streams. */
export function streamTarget(
  instructionSet: string,
  kind: 'int4' | 'int8' | 'blocks of 32' | 'HTTP',
  streams: number,
): Target | null {
  const name = `${kind}, ${countStreams(streams)}`
  return name in least ? targetFor(instructionSet, name as TargetName) : null
}
