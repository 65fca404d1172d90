// Shapes of real checkpoints, for speed and memory on random weights.

export interface Shape {
  /** Llama has no biases, Qwen2 those of queries, keys and values. */
  readonly family: 'qwen2' | 'llama'
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
  'smollm2-135m': {
    family: 'llama',
    hidden: 576,
    layers: 30,
    heads: 9,
    kvHeads: 3,
    intermediate: 1536,
    vocab: 49152,
    ropeTheta: 1e5,
    tied: true,
  },
  'qwen2.5-0.5b': {
    family: 'qwen2',
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
    family: 'qwen2',
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
    family: 'qwen2',
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
