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
  /** Where in the reply it acts; left out: everywhere, prompt included. */
  readonly span?: AdapterSpan | undefined
}

/**
 * thought: prompt and thought, up to the answer. answer: from the answer's first token on, after
 * `</think>`, or after the prompt where the reply has no thought.
 */
export type AdapterSpan = 'thought' | 'answer'

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
  /** Each of them acts, as strong as it says; one adapter may be there twice. */
  readonly required: readonly AdapterFloor[]
}

/** A required adapter, and who requires it. */
export interface RequiredBy extends RequiredAdapter {
  readonly by: 'flags' | 'key'
}

/** A required adapter as it travels with a request. */
export interface AdapterFloor extends RequiredBy {
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
  /** Where in the reply it acts; left out: everywhere, prompt included. */
  readonly span?: AdapterSpan | undefined
  /** Another server was asked to apply it; left out: this one did. */
  readonly attested?: 'arranged' | undefined
}

/** An adapter that is part of an engine's weights. */
export interface MergedAdapter {
  readonly id: string
  readonly digest: string
  readonly scale: number
}

/** What is to become part of the weights. */
export interface MergeTarget {
  readonly id: string
  /** null: its default strength. */
  readonly scale: number | null
}

/** A checked adapter, of which the cache folder has a copy. */
export interface PreparedMerge {
  readonly merged: MergedAdapter
  readonly modules: readonly LinearModule[]
}

/** What became of one in a request. */
export interface MergedShare extends MergedAdapter {
  /** What was added beside the weights while prompt and thought were computed; below 0: taken off. */
  readonly hot: number
}

/** A guard judges conversations and is applied to no reply. */
export const adapterKinds = ['adapter', 'guard'] as const
export type AdapterKind = (typeof adapterKinds)[number]

/** An adapter folder as `GET /v1/adapters` lists it. Fields read only on load are null until then. */
export const adapterSummarySchema = z
  .object({
    id: z.string(),
    kind: z.enum(adapterKinds).describe('guard: it judges, and is applied to no reply'),
    state: z
      .enum(['available', 'resident', 'invalid', 'other_base'])
      .describe('other_base: nothing is wrong with it, and it is for another base than this one'),
    digest: z.string().nullable(),
    rank: z.int().min(0).nullable(),
    targetModules: z.array(z.string()).readonly().nullable(),
    bytes: z.int().min(0).nullable().describe('Of its vectors; null until it was read'),
    runningRequests: z
      .int()
      .min(0)
      .describe('Requests that run with it, in this version or an earlier one'),
    pinned: z.boolean().describe('It is never evicted from memory'),
    mergedScale: z.number().optional().describe('Its strength in the weights, where they hold it'),
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

// Changes of the adapters folder while the server runs.

/** Folder in the adapters folder that is ours: its name is no adapter's. */
export const privateFolder = '.dutyfree'
/** Where uploads are written, each in a folder of its own. */
export const incomingFolder = `${privateFolder}/incoming`

export const adapterFiles = {
  config: 'adapter_config.json',
  tensors: 'adapter_model.safetensors',
  manifest: 'manifest.json',
} as const

interface Conditions {
  /** Of the adapter in service, so that nobody's newer version is lost; true: any; false: none. */
  readonly replace: boolean | { readonly digest: string }
  /** What the content must have; null: anything. */
  readonly digest: string | null
  /** null: as before. */
  readonly pinned: boolean | null
}

export type AdapterChange =
  /** `staged`: name of a folder in `incomingFolder`, written whole and synced. */
  | ({ readonly kind: 'install'; readonly id: string; readonly staged: string } & Conditions)
  /** `folder`: its name or path, inside the adapters folder. */
  | ({ readonly kind: 'load'; readonly id: string; readonly folder: string } & Conditions)
  | {
      readonly kind: 'remove'
      readonly id: string
      /** How long to wait for the requests that run with it. */
      readonly waitMs: number
      /** Its files stay, out of service, and may be loaded again. */
      readonly keepsFiles: boolean
    }

/**
 * Brings the files of an adapter from the hub into a folder that is empty, synced. Rejects with ServerError,
 * or as `signal` says.
 */
export type FetchAdapter = (wanted: {
  readonly repo: string
  /** A branch, a tag or a commit; null: the hub's main branch. */
  readonly revision: string | null
  readonly folder: string
  /** Of all files together. */
  readonly maxBytes: number
  readonly signal: AbortSignal
}) => Promise<{ readonly commit: string }>

export interface AdapterChanged {
  readonly outcome: 'added' | 'replaced' | 'unchanged' | 'removed'
  /** As it is listed now; null: it is gone. */
  readonly adapter: AdapterSummary | null
  /** Requests that still run with what was replaced or removed; its memory is freed after them. */
  readonly runningRequests: number
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

/** An adapter that is loaded, as one request holds it. */
export interface HeldAdapter {
  readonly applied: AppliedAdapter
  /** One per rank. */
  readonly components: readonly RankOne[]
  /** Its recommended strength. */
  readonly defaultScale: number
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
