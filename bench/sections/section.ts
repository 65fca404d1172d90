// What a section of the benchmark is: cases that run interleaved, and the comparisons drawn from
// them with the targets they are held to. Data only; nothing here runs.

import type { ShapeName } from '../models/shapes.ts'
import type { WeightType } from '../models/weight-types.ts'
import type { ComparedPeer, SectionName } from '../options.ts'

export type PeerName = ComparedPeer | 'bandwidth' | 'adapter-store'

/** A process with a loaded model; equal ones are the same process. */
export interface PeerUse {
  readonly peer: PeerName
  readonly shape: ShapeName
  readonly weights: WeightType | null
  /** Whether our graph has sites for adapters. */
  readonly hasSites: boolean
  /** Adapters in memory, or 1 where PEFT wraps the model. */
  readonly resident: number
  /** Most streams of a batch; 8 where left out. */
  readonly rows?: number
  /** Most positions of a stream; 1,024 where left out. */
  readonly capacity?: number
}

type Unit = 'tokens/s' | 'ms' | 'GB/s'

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
  /** Over the fastest of the peers that have values. */
  | { readonly kind: 'best'; readonly top: string; readonly peers: readonly string[] }
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

export function caseIds(comparison: Comparison): readonly string[] {
  switch (comparison.kind) {
    case 'ratio':
      return [comparison.top, comparison.bottom]
    case 'best':
      return [comparison.top, ...comparison.peers]
    case 'value':
      return [comparison.of]
    case 'share':
      return [comparison.of, comparison.bandwidth]
  }
}

export function atLeast(value: number): Target {
  return { kind: 'at-least', value }
}

export function atMost(value: number): Target {
  return { kind: 'at-most', value }
}
