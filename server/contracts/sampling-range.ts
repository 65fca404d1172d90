// What the sampling settings may be, wherever they are written: in a request or in a checkpoint's
// generation_config.json.

import { z } from 'zod'

/** 0 keeps the most likely token, 1 every token. */
export const topPRange = z.number().min(0).max(1)

/** 0 and −1 keep every token. */
export const topKRange = z.int().min(-1)

export const minPRange = z.number().min(0).max(1)

/** 1 changes nothing. A logit is divided by it: far smaller ones would make it infinite. */
export const repetitionPenaltyRange = z.number().min(0.01).max(10)

/** A top_k as the sampler takes it: 0 keeps every token. */
export function keptTokens(topK: number): number {
  return Math.max(0, topK)
}
