// What an adapter is to every room: a name, a digest, a strength; and the numbers behind it.

import { z } from 'zod'
import type { LinearModule } from './checkpoint.ts'

/** Names an adapter may have; also keeps names safe as folder names, labels and header values. */
export const adapterNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/** An adapter as a request names it. */
export interface AdapterRef {
  readonly id: string
  /** null: the default strength of the version that is loaded. */
  readonly scale: number | null
}

/** What operators bound from below: every request runs with `id` at least `minScale` strong. */
export interface RequiredAdapter {
  readonly id: string
  /** null: the default strength of the version that is loaded. */
  readonly minScale: number | null
}

/** The adapters of one request. The engine makes every strength concrete when it has loaded them. */
export interface AdapterSelection {
  /** Empty means the base model. */
  readonly adapters: readonly AdapterRef[]
  readonly required: AdapterFloor | null
}

/** The required adapter as it travels with a request. */
export interface AdapterFloor extends RequiredAdapter {
  /**
   * Field of the request that names the adapters: a strength below the minimum is refused. null: the
   * operator's flags name them, and the strength is raised to the minimum.
   */
  readonly namedIn: string | null
}

/** An adapter as it was really applied to a request. */
export interface AppliedAdapter {
  readonly id: string
  /** SHA-256 over the canonical config and the tensors, 64 hex digits. 12 are shown to clients. */
  readonly digest: string
  readonly scale: number
}

/** An adapter folder as `GET /v1/adapters` lists it. Fields read only on load are null until then. */
export const adapterSummarySchema = z
  .object({
    id: z.string(),
    state: z
      .enum(['available', 'resident', 'invalid', 'other_base'])
      .describe('other_base: nothing is wrong with it, and it is for another base than this one'),
    digest: z.string().nullable(),
    rank: z.int().min(0).nullable(),
    targetModules: z.array(z.string()).readonly().nullable(),
    numLayers: z.int().min(0).nullable().describe('Layers that carry at least one adapted module'),
    defaultScale: z.number().describe('The recommended strength'),
    description: z.string().nullable(),
    base: z
      .object({ model: z.string().nullable(), digest: z.string().nullable() })
      .readonly()
      .nullable()
      .describe('The base that it was trained on, as manifest.json names it'),
    manifest: z
      .record(z.string(), z.unknown())
      .readonly()
      .nullable()
      .describe('Provenance and held-out results: what is well-formed of manifest.json'),
    warnings: z
      .array(z.string())
      .readonly()
      .describe('What is wrong with the manifest and stops nothing'),
    error: z.object({ code: z.string(), message: z.string() }).readonly().nullable(),
  })
  .readonly()
export type AdapterSummary = z.infer<typeof adapterSummarySchema>

/** Which adapters are asked for; all by default. */
export interface AdapterQuery {
  /** Those of these names that there are. */
  readonly ids?: readonly string[]
  /** Those whose names come after this one, in the order of UTF-16 units. */
  readonly after?: string
  /** So many of them at most. */
  readonly limit?: number
  /** Without their manifests, which may be large. */
  readonly isBrief?: boolean
}

/** y += scale · b · (a · x) on one module of one layer. */
export interface ModuleUpdate {
  readonly layer: number
  readonly module: LinearModule
  /** [inner] */
  readonly a: Float32Array
  /** [outer], with alpha/r folded in. */
  readonly b: Float32Array
}

/**
 * A rank-1 update: at most one vector pair a module; modules that are not adapted are absent. An
 * adapter of rank r is r of them.
 */
export type RankOne = readonly ModuleUpdate[]

/** A rank-1 update as a row of the batch runs with it. */
export interface ScaledRankOne {
  readonly component: RankOne
  readonly scale: number
}

/** Rank-1 updates that a site is laid out for: powers of two, so that layouts change seldom. */
export function rowWidth(rank: number): number {
  return 2 ** Math.ceil(Math.log2(rank))
}

export function rankOneBytes(component: RankOne): number {
  return component.reduce((sum, { a, b }) => sum + a.byteLength + b.byteLength, 0)
}

/** Rank-1 safety adapters change up_proj, and may come while the server runs. */
export const usualAdapterModules: readonly LinearModule[] = ['up_proj']

/** Most adapters one request may combine. */
export const maxAdaptersPerRequest = 4
/** Range of a strength. */
export const maxAdapterScale = 4
