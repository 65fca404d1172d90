// The engine as the front sees it, whatever stands behind (a child process, a fake in tests).

import type { AdapterQuery, AdapterRef, AdapterSummary } from './adapter.ts'
import type { BlockSize, Kernels, LinearModule, SamplingDefaults } from './checkpoint.ts'
import type { FloatName } from './float-type.ts'
import type { ChatInput, GenerateRequest, GenerationEvent, Turn } from './generation.ts'
import type { MemoryParts } from './memory.ts'

export type Device = 'cpu' | 'webgpu' | 'cuda'
export type KvCacheDtype = 'auto' | FloatName
export type Weights = 'auto' | FloatName | 'int8' | 'int4' | 'stored'

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
  readonly weights: Exclude<Weights, 'auto'>
  readonly device: Device
  /** Whose operators compute on the CPU; null on a GPU. */
  readonly kernels: Kernels | null
  readonly kvCacheDtype: Exclude<KvCacheDtype, 'auto'>
  readonly maxBatch: number
  /** Modules that adapters may change in this engine. */
  readonly adapterModules: readonly LinearModule[]
  /** Positions of all rows and saved beginnings together. */
  readonly kvCapacityTokens: number
  /** From the checkpoint's generation_config; what changes nothing where it is silent. */
  readonly defaults: SamplingDefaults
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
}

/** One request under way. `events` yields exactly one terminal event, last. */
export interface Generation {
  readonly id: string
  readonly events: AsyncIterable<GenerationEvent>
  /** Idempotent; the stream then ends in `cancelled`, unless it had already ended. */
  cancel(): void
}

export interface EngineClient {
  readonly state: EngineState
  /** Undefined until the first engine is ready. */
  readonly model: ModelInfo | undefined
  readonly restarts: number
  /** Never throws: a request that cannot start ends in `failed` (e.g. model_loading). */
  submit(request: GenerateRequest): Generation
  /** Rejects with ServerError. `turn`: of the client that asks. */
  tokenize(input: TokenizeInput, turn: Turn): Promise<TokenizeResult>
  detokenize(tokens: readonly number[], turn: Turn): Promise<string>
  /** Looks at the adapter folder; never at tensors. All adapters by default. */
  listAdapters(query?: AdapterQuery): Promise<readonly AdapterSummary[]>
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
