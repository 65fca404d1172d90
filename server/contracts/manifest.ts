// The fields of an adapter's manifest.json, as the trainer writes them and GET /v1/adapters shows them.

import { z } from 'zod'
import { adapterKinds, maxAdapterScale } from './adapter.ts'

const digest = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits')
const word = z.string().max(500)
const interval = z.object({
  count: z.int().min(0),
  n: z.int().min(0),
  value: z.number().min(0).max(1),
  low: z.number().min(0).max(1),
  high: z.number().min(0).max(1),
})
const shares = z.record(z.string(), interval)

/** What the trainer writes; what else a file holds is shown as it is. */
export const manifestSchema = z.looseObject({
  kind: z.enum(adapterKinds).nullish(),
  recommended_strength: z.number().min(0).max(maxAdapterScale).nullish(),
  description: z.string().max(2000).nullish(),
  base_model: word.nullish(),
  base_digest: digest.nullish(),
  data: z.string().max(2000).nullish(),
  data_sha256: digest.nullish(),
  config: z.record(z.string(), z.unknown()).nullish(),
  seed: z.int().nullish(),
  commit: word.nullish(),
  versions: z.record(z.string(), word).nullish(),
  exam: z.looseObject({ split: word, seed: z.int(), n: z.int() }).nullish(),
  /** Subject (base, adapter) to its held-out shares, each with its n. */
  results: z.record(z.string(), z.looseObject({ shares })).nullish(),
  /** The sweep on validation that the recommended strength was chosen from. */
  strength: z
    .looseObject({
      chosen: z.number(),
      rule: z.string(),
      rows: z.array(z.looseObject({ strength: z.number(), shares })),
    })
    .nullish(),
})
