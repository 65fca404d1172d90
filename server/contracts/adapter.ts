// What an adapter is to every room: a name, a digest, a strength.

/** Names an adapter may have; also keeps names safe as folder names, labels and header values. */
export const adapterNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/** An adapter as a request names it. `scale` null means the adapter's own default strength. */
export interface AdapterRef {
  readonly id: string
  readonly scale: number | null
}

/** An adapter as it was really applied to a request. */
export interface AppliedAdapter {
  readonly id: string
  /** SHA-256 over the canonical config and the tensors, 64 hex digits. 12 are shown to clients. */
  readonly digest: string
  readonly scale: number
}

export type AdapterState = 'available' | 'resident' | 'invalid'

/** An adapter folder as `GET /v1/adapters` lists it. Fields read only on load are null until then. */
export interface AdapterSummary {
  readonly id: string
  readonly state: AdapterState
  readonly digest: string | null
  readonly rank: number | null
  readonly targetModules: readonly string[] | null
  /** Number of layers that carry at least one adapted module. */
  readonly numLayers: number | null
  readonly defaultScale: number
  readonly description: string | null
  /** Provenance and held-out results from the folder's manifest.json, shown as they are. */
  readonly manifest: Readonly<Record<string, unknown>> | null
  readonly error: { readonly code: string; readonly message: string } | null
}

/** Most adapters one request may combine. */
export const maxAdaptersPerRequest = 4
/** Largest total rank of the adapters on one row of the batch. */
export const maxRankPerRow = 4
/** Range of a strength. */
export const maxAdapterScale = 4

/** What operators may bound from below: every request runs with `id` at least `minScale` strong. */
export interface RequiredAdapter {
  readonly id: string
  /** null: at least the adapter's default strength. */
  readonly minScale: number | null
}
