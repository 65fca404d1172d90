// manifest.json of an adapter folder: provenance and results, written by our trainer or by nobody.
// Lenient: what is wrong in it is ignored, because it changes nothing that is computed but the
// default strength.

import { z } from 'zod'
import { maxAdapterScale } from '../contracts/adapter.ts'

export interface Manifest {
  readonly defaultScale: number
  readonly description: string | null
  /** Digest of the base that the adapter was trained on, where it is given. */
  readonly baseDigest: string | null
  /** The whole file, shown as it is; null when there is none. */
  readonly content: Readonly<Record<string, unknown>> | null
}

const schema = z.looseObject({
  recommended_strength: z.number().min(0).max(maxAdapterScale).catch(1).default(1),
  description: z.string().max(2000).nullable().catch(null).default(null),
  base_digest: z.string().max(128).nullable().catch(null).default(null),
})

export const emptyManifest: Manifest = {
  defaultScale: 1,
  description: null,
  baseDigest: null,
  content: null,
}

export function parseManifest(text: string | null): Manifest {
  if (text === null) return emptyManifest
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return emptyManifest
  }
  const result = schema.safeParse(json)
  if (!result.success) return emptyManifest
  return {
    defaultScale: result.data.recommended_strength,
    description: result.data.description,
    baseDigest: result.data.base_digest,
    content: json as Record<string, unknown>,
  }
}
