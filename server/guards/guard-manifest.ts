// The field `guard` of manifest.json: which token asks for a verdict, which two answer it, and how
// logits become P(unsafe). Unlike an adapter's manifest it decides what is blocked, so an ill-formed
// field is an error.

import { z } from 'zod'
import { manifestFile } from '../adapters/adapter-folder.ts'
import { maxAdapterScale } from '../contracts/adapter.ts'
import { ServerError } from '../errors.ts'

const maxCarriers = 256
const digest = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits')
const probability = z.number().min(0).max(1)
const temperature = z.number().positive().max(1000)
/** More, such as an AUROC and its n, is for readers. */
const measured = z.looseObject({ temperature, threshold: probability })
const parts = z
  .looseObject({
    prompt: measured.nullish(),
    reasoning: measured.nullish(),
    output: measured.nullish(),
  })
  .nullish()

const probeSchema = z.looseObject({
  layer: z.int().min(0),
  site: z.enum(['residual', 'mlp_output']),
  tensor: z.string().max(200),
  bias: z.number(),
  temperature,
  threshold: probability,
})

const carrierSchema = measured.extend({
  /** Empty: the base alone. */
  adapters: z
    .array(z.looseObject({ digest, scale: z.number().min(-maxAdapterScale).max(maxAdapterScale) }))
    .max(16),
  /** Measured over weights that hold these adapters, and nothing beside them. */
  merged: z.boolean().nullish(),
  parts,
})

const schema = z.looseObject({
  base_digest: digest,
  guard: measured.extend({
    token: z.int().min(0),
    labels: z.looseObject({ safe: z.int().min(0), unsafe: z.int().min(0) }),
    carriers: z.array(carrierSchema).max(maxCarriers),
    parts,
    probe: probeSchema.nullish(),
  }),
})

export type GuardManifest = z.infer<typeof schema>['guard'] & { readonly baseDigest: string }
export type ProbeManifest = z.infer<typeof probeSchema>

/** Throws ServerError. null: there is no such file. */
export function parseGuardManifest(text: string | null): GuardManifest {
  const { error, data } = schema.safeParse(parseJson(text))
  if (error !== undefined) {
    const issue = error.issues[0]!
    return invalid(`${issue.path.map(String).join('.').slice(0, 80)}: ${issue.message}`)
  }
  const { base_digest: baseDigest, guard } = data
  const { token, labels } = guard
  if (new Set([token, labels.safe, labels.unsafe]).size < 3) {
    invalid(
      `guard.token is ${token}, guard.labels are ${labels.safe} and ${labels.unsafe}: they must be ` +
        'three tokens',
    )
  }
  return { ...guard, baseDigest }
}

function parseJson(text: string | null): unknown {
  if (text === null) return invalid('it is missing')
  try {
    return JSON.parse(text)
  } catch {
    return invalid('it is not JSON')
  }
}

function invalid(message: string): never {
  throw new ServerError('invalid_adapter', `${manifestFile}: ${message}.`)
}
