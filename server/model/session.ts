// A loaded graph and the tensors it runs on. Tensors live in native memory that does not move;
// typed arrays are views of it. A binding names what a run reads and writes; an input and an output
// may be the same tensor, which is how the KV cache is updated in place.

import {
  call,
  callAsync,
  create,
  nativeShape,
  type Pointer,
  release,
  viewMemory,
} from './onnxruntime.ts'

const elementTypes = {
  float32: { code: 1, bytes: 4, View: Float32Array },
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

export interface Binding {
  /** Runs the graph on a worker thread; rejects with OnnxRuntimeError. One run at a time. */
  run(): Promise<void>
  release(): void
}

export interface Session {
  bind(inputs: ReadonlyMap<string, Tensor>, outputs: ReadonlyMap<string, Tensor>): Binding
  release(): void
}

const numElements = (dims: readonly number[]) => dims.reduce((product, dim) => product * dim, 1)

let environment: Pointer | undefined
let cpuMemory: Pointer | undefined
let allocator: Pointer | undefined

function getEnvironment(): Pointer {
  if (environment === undefined) {
    const warning = 2
    environment = create('CreateEnv', warning, 'dutyfree')
    call('DisableTelemetryEvents', environment)
  }
  return environment
}

function makeTensor<T extends ElementType>(
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

/**
 * A tensor in CPU memory of its own. Not zeroed: large ones cost no physical memory until touched.
 */
export function allocateTensor<T extends ElementType>(type: T, dims: readonly number[]): Tensor<T> {
  allocator ??= create('GetAllocatorWithDefaultOptions')
  const owner = allocator
  const bytes = Math.max(numElements(dims) * elementTypes[type].bytes, 8)
  const address = create('AllocatorAlloc', owner, bytes)
  return makeTensor(type, dims, address, () => call('AllocatorFree', owner, address))
}

export interface SessionOptions {
  /** Path of the .onnx file; external weights lie beside it. */
  readonly path: string
  /** 0: one per physical core. */
  readonly threads: number
}

/** Loads a graph. Blocks while it does; throws OnnxRuntimeError. */
export function openSession({ path, threads }: SessionOptions): Session {
  const allOptimisations = 99
  const options = create('CreateSessionOptions')
  let session: Pointer
  try {
    call('SetSessionGraphOptimizationLevel', options, allOptimisations)
    call('SetIntraOpNumThreads', options, threads)
    call('SetInterOpNumThreads', options, 1)
    session = create('CreateSession', getEnvironment(), path, options)
  } finally {
    release('ReleaseSessionOptions', options)
  }
  const runOptions = create('CreateRunOptions')

  function bind(inputs: ReadonlyMap<string, Tensor>, outputs: ReadonlyMap<string, Tensor>) {
    const binding = create('CreateIoBinding', session)
    for (const [name, tensor] of inputs) call('BindInput', binding, name, tensor.handle)
    for (const [name, tensor] of outputs) call('BindOutput', binding, name, tensor.handle)
    return {
      run: () => callAsync('RunWithBinding', session, runOptions, binding),
      release: () => release('ReleaseIoBinding', binding),
    }
  }

  return {
    bind,
    release: () => {
      release('ReleaseRunOptions', runOptions)
      release('ReleaseSession', session)
    },
  }
}
