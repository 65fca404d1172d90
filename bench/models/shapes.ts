// Shapes of real checkpoints, for speed and memory on random weights.

export interface Shape {
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly intermediate: number
  readonly vocab: number
  readonly ropeTheta: number
  readonly tied: boolean
}

export const shapes = {
  'qwen2.5-0.5b': {
    hidden: 896,
    layers: 24,
    heads: 14,
    kvHeads: 2,
    intermediate: 4864,
    vocab: 151936,
    ropeTheta: 1e6,
    tied: true,
  },
  'r1-qwen-1.5b': {
    hidden: 1536,
    layers: 28,
    heads: 12,
    kvHeads: 2,
    intermediate: 8960,
    vocab: 151936,
    ropeTheta: 1e4,
    tied: false,
  },
  'r1-qwen-7b': {
    hidden: 3584,
    layers: 28,
    heads: 28,
    kvHeads: 4,
    intermediate: 18944,
    vocab: 152064,
    ropeTheta: 1e4,
    tied: false,
  },
} as const satisfies Record<string, Shape>

export type ShapeName = keyof typeof shapes
