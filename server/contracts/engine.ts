// The engine as the front sees it, whatever stands behind (a child process, a fake in tests).

import type { ErrorBody } from '../errors.ts'
import type {
  AdapterChange,
  AdapterChanged,
  AdapterQuery,
  AdapterRef,
  AdapterSummary,
  MergedAdapter,
  MergeTarget,
} from './adapter.ts'
import type { BlockSize, Kernels, LinearModule, SamplingDefaults } from './checkpoint.ts'
import type { FloatName } from './float-type.ts'
import type { ChatInput, GenerateRequest, GenerationEvent, Turn } from './generation.ts'
import type { MemoryParts } from './memory.ts'
import type { GuardInfo } from './safety.ts'

export type Device = 'cpu' | 'webgpu' | 'cuda'
export type KvCacheDtype = 'auto' | FloatName
/** As an engine says it of itself. */
export type KnownWeights = Exclude<Weights, 'auto'>
export type Weights = 'auto' | FloatName | 'int8' | 'int4' | 'stored'

/** How a model writes its calls of tools (tool-calls/tool-reader.ts). */
export type ToolFormat = 'hermes' | 'llama3' | 'deepseek'

/** What evaluations want to know of a tokenizer. */
interface TokenizerInfo {
  /** bos_token, eos_token, … as text; those that there are. */
  readonly namedTokens: Readonly<Record<string, string>>
  /** The checkpoint's own, in Jinja. */
  readonly chatTemplate: string | null
}

/** What an engine process is started with. Paths are absolute. */
export interface EngineOptions {
  readonly model: string
  readonly servedModelName: string
  readonly adapters: string
  /** Those of --require-adapter and --default-adapter. */
  readonly operatorsAdapters: readonly AdapterRef[]
  /** Modules that adapters may change, whatever the folder holds. */
  readonly adapterModules: readonly LinearModule[]
  /** Those that the adapters in the folder change, too. */
  readonly scansAdapters: boolean
  /** Adapters that are folded into the weights. Their vectors are in the cache folder, by digest. */
  readonly merged: readonly MergedAdapter[]
  /** Which guard of the adapters folder judges: its name, the only one there is, or none. */
  readonly guard: { readonly id: string } | 'auto' | 'none'
  /** What the guard was not measured on it reads once more, on the base. */
  readonly guardExact: boolean
  /** Also adapters whose manifest says that they were trained on another base. */
  readonly acceptsOtherBases: boolean
  readonly device: Device
  /** Folder of another ONNX Runtime than the npm package's; null: that one. */
  readonly onnxruntime: string | null
  /** auto: our own where they were compiled and this processor can run them. */
  readonly kernels: 'auto' | Kernels
  readonly weights: Weights
  /** auto: fp16 on a GPU, and on the CPU for weights in blocks with our own kernels; else fp32. */
  readonly kvCacheDtype: KvCacheDtype
  /** Of int8 and int4; null: the default of the type. */
  readonly weightBlock: BlockSize | null
  readonly weightZeroPoints: boolean | null
  readonly maxBatch: number
  /** null: the checkpoint's own. */
  readonly maxContext: number | null
  /** null: a share of the free memory. */
  readonly kvMemoryBytes: number | null
  /** Largest total rank of the adapters on one request. */
  readonly maxAdapterRank: number
  /** null: a share of the free memory. */
  readonly adapterMemoryBytes: number | null
  /** null: one per core. */
  readonly threads: number | null
  readonly cacheDir: string
  /** Who computes instead of this process; null: it does so itself. */
  readonly upstream: UpstreamOptions | null
}

/** What an engine process needs to serve over vLLM. Paths are absolute. */
export interface UpstreamOptions {
  /** Bare addresses, without a path. */
  readonly urls: readonly string[]
  /** Folder that both sides see at this path; adapters are written into it, each once. */
  readonly adaptersDir: string
  /** Adapters that one of them holds at once; null: what it says. */
  readonly slots: number | null
  /** Longest pause between two tokens of a stream. */
  readonly silenceMs: number
  /** Between two health checks. */
  readonly healthMs: number
  /** How long the answer of one may take. */
  readonly healthTimeoutMs: number
  readonly key: string | null
  /** File of the base's own log-probabilities; null: kept in the cache, recorded at first use. */
  readonly fingerprint: string | null
}

/** What an engine can do, where engines differ. */
export interface Capabilities {
  /**
   * computed: adapters are applied by the process that says so. arranged: the front had another
   * server apply them, and checked what can be checked from outside.
   */
  readonly attestation: 'computed' | 'arranged'
  /** Adapters for the thought or for the answer alone. */
  readonly spans: boolean
  /** shared_kv: a verdict costs one token. own_prefill: it reads the conversation for itself. */
  readonly verdicts: 'shared_kv' | 'own_prefill'
  /** A score of every token. */
  readonly probe: boolean
  /** Which answers keep to a form that is asked for; null: none. */
  readonly constrained: 'all' | 'without_thought' | null
}

export const ownCapabilities: Capabilities = {
  attestation: 'computed',
  spans: true,
  verdicts: 'shared_kv',
  probe: true,
  constrained: 'all',
}

export const upstreamCapabilities: Capabilities = {
  attestation: 'arranged',
  spans: false,
  verdicts: 'own_prefill',
  probe: false,
  constrained: 'without_thought',
}

export interface ModelInfo {
  readonly id: string
  readonly architecture: string
  readonly vocabSize: number
  /** Longest prompt and answer together: the checkpoint's own context, or what memory leaves of it. */
  readonly maxContext: number
  /** The checkpoint's own. */
  readonly modelContext: number
  readonly numParameters: number
  /** upstream: known there. */
  readonly weights: KnownWeights | 'upstream'
  readonly device: Device | 'upstream'
  /** Whose operators compute on the CPU; null on a GPU. */
  readonly kernels: Kernels | null
  readonly kvCacheDtype: Exclude<KvCacheDtype, 'auto'> | 'upstream'
  readonly maxBatch: number
  /** Modules that adapters may change in this engine. */
  readonly adapterModules: readonly LinearModule[]
  /** Adapters that are part of the weights. */
  readonly merged: readonly MergedAdapter[]
  /** Positions of all rows and saved beginnings together. */
  readonly kvCapacityTokens: number
  readonly tokenizer: TokenizerInfo
  /** How its chat template has calls written; null: it shows the model no tools. */
  readonly toolFormat: ToolFormat | null
  /** From the checkpoint's generation_config; what changes nothing where it is silent. */
  readonly defaults: SamplingDefaults
  /** The guard that judges inside this engine; null: there is none. */
  readonly guard: GuardInfo | null
  readonly capabilities: Capabilities
  /** What it took until the first token could be said. */
  readonly startup: {
    /** Looking at the adapters folder. */
    readonly scanSeconds: number
    /** Opening the checkpoint, and converting it where no earlier result was there. */
    readonly convertSeconds: number
    readonly loadSeconds: number
    readonly firstTokenSeconds: number
    /** Of the engine process, mapped file pages included. */
    readonly peakRssBytes: number
  }
  /** Seconds since the epoch at which the checkpoint was written. */
  readonly created: number
  readonly bytes: MemoryParts
}

/** unresponsive: it has been ready, and does not answer now. */
export type EngineState = 'loading' | 'ready' | 'unresponsive' | 'restarting' | 'stopped'

export interface EngineStats {
  readonly running: number
  readonly waiting: number
  /** 0–1 */
  readonly kvUsage: number
  readonly runningAdapters: readonly string[]
  readonly waitingAdapters: readonly string[]
  readonly residentAdapters: number
  /** Of their vectors. */
  readonly residentAdapterBytes: number
  readonly pinnedAdapters: number
}

/** Without what the store of adapters knows. */
export type LoopStats = Omit<
  EngineStats,
  'residentAdapters' | 'residentAdapterBytes' | 'pinnedAdapters'
>

/** One request under way. `events` yields exactly one terminal event, last. */
export interface Generation {
  readonly id: string
  readonly events: AsyncIterable<GenerationEvent>
  /** Idempotent; the stream then ends in `cancelled`, unless it had already ended. */
  cancel(): void
}

// Adapters that become part of the weights, or cease to be, while the server runs.

export type MergeChange = {
  /** The engine ends before the next one starts: for machines that have no memory for two. */
  readonly drains: boolean
} & (
  | ({ readonly kind: 'merge' } & MergeTarget)
  /** `id`: null: all of them. */
  | { readonly kind: 'unmerge'; readonly id: string | null }
)

/**
 * The next engine, and the one before with the same adapters, made beside its weights: log-probabilities
 * of fixed texts' tokens. Floats differ in their last bits, weights in blocks are rounded anew.
 */
export interface MergeDifference {
  readonly tokens: number
  /** Of |Δ log p|. */
  readonly mean: number
  readonly largest: number
  /** The largest mean that was allowed. */
  readonly tolerance: number
  /** The mean by which the change itself moves the same log-probabilities. */
  readonly effect: number
}

export interface MergeReport {
  readonly outcome: 'merged' | 'unmerged' | 'unchanged'
  /** What the weights hold now. */
  readonly merged: readonly MergedAdapter[]
  /** null: nothing was changed. */
  readonly difference: MergeDifference | null
  readonly seconds: number
}

/** In this order; a change that does not drain has no such phase. */
export type MergePhase = 'idle' | 'preparing' | 'draining' | 'starting' | 'comparing'

export interface MergeStatus {
  readonly phase: MergePhase
  /** The one under way; null: there is none. */
  readonly change: MergeChange | null
  /** What the next engine does, and how far it is. */
  readonly progress: {
    readonly what: string
    readonly done: number
    readonly total: number
  } | null
  /** What became of the last one; null: there was none. */
  readonly last: {
    readonly change: MergeChange
    readonly report: MergeReport | null
    readonly error: { readonly code: string; readonly message: string } | null
  } | null
}

export const noMerge: MergeStatus = { phase: 'idle', change: null, progress: null, last: null }

export interface EngineClient {
  readonly state: EngineState
  /** Undefined until the first engine is ready. */
  readonly model: ModelInfo | undefined
  readonly restarts: number
  /** Why it can compute nothing now, though it is ready; null: it can. */
  readonly outage: ErrorBody | null
  /** Never throws: a request that cannot start ends in `failed` (e.g. model_loading). */
  submit(request: GenerateRequest): Generation
  /** Rejects with ServerError. `turn`: of the client that asks. */
  tokenize(input: TokenizeInput, turn: Turn): Promise<TokenizeResult>
  detokenize(tokens: readonly number[], turn: Turn): Promise<string>
  /** Looks at the adapter folder; never at tensors. All adapters by default. */
  listAdapters(query?: AdapterQuery): Promise<readonly AdapterSummary[]>
  /** Rejects with ServerError; nothing has changed then, unless the engine was lost meanwhile. */
  changeAdapter(change: AdapterChange): Promise<AdapterChanged>
  /** Resolves when new requests meet the changed weights. Rejects with ServerError: they are as before. */
  changeMerge(change: MergeChange): Promise<MergeReport>
  readonly mergeStatus: MergeStatus
  /** Resolves when the first engine is ready; rejects with ServerError when it cannot start. */
  ready(): Promise<ModelInfo>
  /** Stops the process after running requests ended, or at once when `force`. */
  close(options?: { force?: boolean }): Promise<void>
}

/** A text that belongs to no generation, and whose it is. */
export interface Asked<Input> {
  readonly input: Input
  readonly turn: Turn
}

export type TokenizeInput = (
  | { readonly kind: 'text'; readonly text: string; readonly addSpecialTokens: boolean }
  | ({ readonly kind: 'messages'; readonly addGenerationPrompt: boolean } & ChatInput)
) & {
  /** The text of each token is wanted, too. */
  readonly withTokenStrings: boolean
}

/** Lists are JSON: the thread that makes them writes them, so that no event loop does. */
export interface TokenizeResult {
  readonly count: number
  readonly tokens: string
  /** Empty unless wanted. */
  readonly tokenStrings: string
}
