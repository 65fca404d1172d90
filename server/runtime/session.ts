// A loaded graph and the tensors it runs on. Tensors live in native memory that does not move;
// typed arrays are views of it. A binding names what a run reads and writes; an input and an output
// may be the same tensor, which is how the KV cache is updated in place.

import { allocateMemory } from './native-memory.ts'
import {
  call,
  callAsync,
  create,
  nativeShape,
  type Pointer,
  release,
  viewMemory,
} from './onnxruntime.ts'
import { ownKernels } from './own-kernels.ts'

const elementTypes = {
  uint8: { code: 2, bytes: 1, View: Uint8Array },
  float32: { code: 1, bytes: 4, View: Float32Array },
  /** As their bits. */
  float16: { code: 10, bytes: 2, View: Uint16Array },
  int32: { code: 6, bytes: 4, View: Int32Array },
  int64: { code: 7, bytes: 8, View: BigInt64Array },
} as const

export type ElementType = keyof typeof elementTypes
type ViewOf<T extends ElementType> = InstanceType<(typeof elementTypes)[T]['View']>

/** A shape over native memory that someone else owns, or owned when made by `allocate`. */
export interface Tensor<T extends ElementType = ElementType> {
  readonly type: T
  readonly dims: readonly number[]
  readonly data: ViewOf<T>
  /** The OrtValue. */
  readonly handle: Pointer
  /** The same memory from element `offset` on, under another shape. Release it before its owner. */
  view(dims: readonly number[], offset?: number): Tensor<T>
  release(): void
}

/** The same in the memory of a session's device, where only graphs see the numbers. */
export interface DeviceTensor<T extends ElementType = ElementType> {
  readonly type: T
  readonly dims: readonly number[]
  readonly handle: Pointer
  /** The first elements under another shape. Release it before its owner. */
  view(dims: readonly number[]): DeviceTensor<T>
  release(): void
}

export type AnyTensor = Tensor | DeviceTensor

export interface Binding {
  /** Runs the graph on a worker thread; rejects with OnnxRuntimeError. One run at a time. */
  run(): Promise<void>
  /** The same on this thread, for small graphs. */
  runBlocking(): void
  release(): void
}

export interface Session {
  /** Tensors of the host are copied to the device at each run, and from it when they are outputs. */
  bind(inputs: ReadonlyMap<string, AnyTensor>, outputs: ReadonlyMap<string, AnyTensor>): Binding
  /** Memory of the session's device, which is not the CPU. Release it before the session. */
  allocate<T extends ElementType>(type: T, dims: readonly number[]): DeviceTensor<T>
  release(): void
}

function numElements(dims: readonly number[]) {
  return dims.reduce((product, dim) => product * dim, 1)
}

let environment: Pointer | undefined
let cpuMemory: Pointer | undefined

function getEnvironment(): Pointer {
  if (environment === undefined) {
    const warning = 2
    environment = create('CreateEnv', warning, 'dutyfree')
    call('DisableTelemetryEvents', environment)
  }
  return environment
}

/** A tensor over memory that someone else owns until it is released, and who `free`s it then. */
export function makeTensor<T extends ElementType>(
  type: T,
  dims: readonly number[],
  address: Pointer,
  free: () => void,
): Tensor<T> {
  const { code, bytes, View } = elementTypes[type]
  const arena = 1
  const defaultMemory = 0
  cpuMemory ??= create('CreateCpuMemoryInfo', arena, defaultMemory)
  const count = numElements(dims)
  const handle = create(
    'CreateTensorWithDataAsOrtValue',
    cpuMemory,
    address,
    count * bytes,
    nativeShape(dims),
    dims.length,
    code,
  )
  let data: ViewOf<T> | undefined
  let isReleased = false
  return {
    type,
    dims,
    handle,
    get data() {
      data ??= new View(viewMemory(address, count * bytes)) as ViewOf<T>
      return data
    },
    view: (viewDims, offset = 0) => {
      if (offset + numElements(viewDims) > count) throw new RangeError('view beyond its tensor')
      return makeTensor(type, viewDims, address + offset * bytes, () => {})
    },
    release: () => {
      if (isReleased) return
      isReleased = true
      release('ReleaseValue', handle)
      free()
    },
  }
}

/** A tensor in CPU memory of its own. Large ones cost no physical memory until touched. */
export function allocateTensor<T extends ElementType>(type: T, dims: readonly number[]): Tensor<T> {
  const bytes = Math.max(numElements(dims) * elementTypes[type].bytes, 8)
  const { address, free } = allocateMemory(bytes)
  return makeTensor(type, dims, address, free)
}

/** By their names in the graph. Release them after the sessions that read them. */
export interface SharedWeights {
  readonly tensors: ReadonlyMap<string, Tensor>
  /** What ONNX Runtime makes of them for its own products: once for all sessions. */
  readonly container: Pointer
  /** After the sessions were opened: what they read no more is no longer in memory. */
  settle(): void
  release(): void
}

/** Where graphs run when not on the CPU: how ONNX Runtime calls the device and its memory. */
export interface Accelerator {
  readonly provider: 'WebGPU' | 'CUDA'
  readonly memory: 'WebGPU_Buf' | 'Cuda'
}

export interface SessionOptions {
  /** Path of the .onnx file, external weights beside it; or its bytes. */
  readonly graph: string | Uint8Array
  /** 0: one per physical core. */
  readonly threads: number
  /** null: the CPU. */
  readonly accelerator: Accelerator | null
  /** Weights in memory that other graphs read too; null or left out: the graph reads its own. */
  readonly weights?: SharedWeights | null
  /** Its threads sleep as soon as a run ends, so that they take nothing from another session's. */
  readonly isAside?: boolean
  /** Says nothing on standard error, for graphs that may fail. */
  readonly isQuiet?: boolean
}

/** Loads a graph. Blocks while it does; throws OnnxRuntimeError. */
export function openSession(sessionOptions: SessionOptions): Session {
  const { graph, threads, accelerator, isQuiet, weights = null, isAside } = sessionOptions
  const allOptimisations = 99
  const fatalOnly = 4
  const env = getEnvironment() // First: providers log to it when they are added.
  const options = create('CreateSessionOptions')
  const kernels = ownKernels()
  let session: Pointer
  try {
    if (isQuiet) call('SetSessionLogSeverityLevel', options, fatalOnly)
    call('SetSessionGraphOptimizationLevel', options, allOptimisations)
    call('SetIntraOpNumThreads', options, threads)
    call('SetInterOpNumThreads', options, 1)
    if (accelerator !== null) appendProvider(options, accelerator)
    else if (kernels !== null) call('RegisterCustomOpsLibrary_V2', options, kernels)
    if (isAside) call('AddSessionConfigEntry', options, 'session.force_spinning_stop', '1')
    for (const [name, tensor] of weights?.tensors ?? []) {
      call('AddInitializer', options, name, tensor.handle)
    }
    session =
      typeof graph === 'string'
        ? create(...loadCall(env, graph, options, weights))
        : create('CreateSessionFromArray', env, graph, graph.length, options)
  } finally {
    release('ReleaseSessionOptions', options)
  }
  const runOptions = create('CreateRunOptions')
  const memory = accelerator === null ? null : openDeviceMemory(session, accelerator)

  function bind(inputs: ReadonlyMap<string, AnyTensor>, outputs: ReadonlyMap<string, AnyTensor>) {
    const binding = create('CreateIoBinding', session)

    function bindInput([name, tensor]: readonly [string, AnyTensor]) {
      return call('BindInput', binding, name, tensor.handle)
    }

    // Where the device's memory is not the host's, binding an input is what copies it there.
    const uploads = memory === null ? [] : [...inputs].filter(([, tensor]) => 'data' in tensor)
    const kept = new Set(uploads.map(([name]) => name))
    for (const input of inputs) if (!kept.has(input[0])) bindInput(input)
    for (const [name, tensor] of outputs) call('BindOutput', binding, name, tensor.handle)
    return {
      run: () => {
        for (const input of uploads) bindInput(input)
        return callAsync('RunWithBinding', session, runOptions, binding)
      },
      runBlocking: () => {
        for (const input of uploads) bindInput(input)
        call('RunWithBinding', session, runOptions, binding)
      },
      release: () => release('ReleaseIoBinding', binding),
    }
  }

  return {
    bind,
    allocate: (type, dims) => {
      if (memory === null) throw new Error('a session on the CPU has no memory of its own')
      return memory.allocate(type, dims)
    },
    release: () => {
      memory?.release()
      release('ReleaseRunOptions', runOptions)
      release('ReleaseSession', session)
    },
  }
}

function loadCall(
  env: Pointer,
  graph: string,
  options: Pointer,
  weights: SharedWeights | null,
): Parameters<typeof create> {
  if (weights === null) return ['CreateSession', env, graph, options]
  const { container } = weights
  return ['CreateSessionWithPrepackedWeightsContainer', env, graph, options, container]
}

function appendProvider(options: Pointer, { provider }: Accelerator): void {
  // A node that silently ran on the CPU would copy its inputs over at every step.
  call('AddSessionConfigEntry', options, 'session.disable_cpu_ep_fallback', '1')
  if (provider === 'WebGPU') {
    call('SessionOptionsAppendExecutionProvider', options, provider, [], [], 0)
    return
  }
  const cuda = create('CreateCUDAProviderOptions')
  try {
    call('UpdateCUDAProviderOptions', cuda, ['device_id'], ['0'], 1)
    call('SessionOptionsAppendExecutionProvider_CUDA_V2', options, cuda)
  } finally {
    release('ReleaseCUDAProviderOptions', cuda)
  }
}

function openDeviceMemory(session: Pointer, { memory: name }: Accelerator) {
  const deviceAllocator = 0
  const firstDevice = 0
  const defaultMemory = 0
  const info = create('CreateMemoryInfo', name, deviceAllocator, firstDevice, defaultMemory)
  const owner = create('CreateAllocator', session, info)

  /** WebGPU's addresses are handles of buffers: a view can be shorter but not start elsewhere. */
  function view<T extends ElementType>(type: T, dims: readonly number[], address: Pointer) {
    const { code, bytes } = elementTypes[type]
    const size = numElements(dims) * bytes
    const args = [info, address, size, nativeShape(dims), dims.length, code]
    return makeDeviceTensor(type, dims, create('CreateTensorWithDataAsOrtValue', ...args))
  }

  function makeDeviceTensor<T extends ElementType>(
    type: T,
    dims: readonly number[],
    handle: Pointer,
  ): DeviceTensor<T> {
    let isReleased = false
    return {
      type,
      dims,
      handle,
      view: (viewDims) => {
        if (numElements(viewDims) > numElements(dims))
          throw new RangeError('view beyond its tensor')
        return view(type, viewDims, create('GetTensorMutableData', handle))
      },
      release: () => {
        if (isReleased) return
        isReleased = true
        release('ReleaseValue', handle)
      },
    }
  }

  return {
    allocate<T extends ElementType>(type: T, dims: readonly number[]): DeviceTensor<T> {
      const { code } = elementTypes[type]
      const shape = nativeShape(dims)
      const handle = create('CreateTensorAsOrtValue', owner, shape, dims.length, code)
      return makeDeviceTensor(type, dims, handle)
    },
    release: () => {
      release('ReleaseAllocator', owner)
      release('ReleaseMemoryInfo', info)
    },
  }
}
