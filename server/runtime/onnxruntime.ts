// ONNX Runtime's C API, called through koffi from the shared library that the npm package carries.
// The function table is append-only ABI; an entry's index is its order in the public header
// onnxruntime_c_api.h. Pointers travel as plain numbers (addresses stay below 2^53).
// Only this file, native-library.ts, native-memory.ts, session.ts and runtime-library.ts know that
// ONNX Runtime or koffi exist.

import koffi from 'koffi'
import { loadLibrary } from './native-library.ts'
import { packagedLibrary } from './runtime-library.ts'

/** Address of something native. */
export type Pointer = number

const apiVersion = 22
const pathType = process.platform === 'win32' ? 'str16' : 'str'
const p = 'uint64'
const out = 'uint64' // address of native scratch that receives a pointer
const texts = 'const char **'

// name → [index in the table, result type, argument types]
const table = {
  GetErrorMessage: [2, 'str', [p]],
  CreateEnv: [3, p, ['int', 'str', out]],
  DisableTelemetryEvents: [6, p, [p]],
  CreateSession: [7, p, [p, pathType, p, out]],
  CreateSessionFromArray: [8, p, [p, 'const uint8_t *', 'size_t', p, out]],
  CreateSessionOptions: [10, p, [out]],
  SetSessionLogSeverityLevel: [22, p, [p, 'int']],
  SetSessionGraphOptimizationLevel: [23, p, [p, 'int']],
  SetIntraOpNumThreads: [24, p, [p, 'int']],
  SetInterOpNumThreads: [25, p, [p, 'int']],
  CreateRunOptions: [39, p, [out]],
  CreateTensorAsOrtValue: [48, p, [p, p, 'size_t', 'int', out]],
  CreateTensorWithDataAsOrtValue: [49, p, [p, p, 'size_t', p, 'size_t', 'int', out]],
  GetTensorMutableData: [51, p, [p, out]],
  CreateMemoryInfo: [68, p, ['str', 'int', 'int', 'int', out]],
  CreateCpuMemoryInfo: [69, p, ['int', 'int', out]],
  AllocatorAlloc: [75, p, [p, 'size_t', out]],
  AllocatorFree: [76, p, [p, p]],
  GetAllocatorWithDefaultOptions: [78, p, [out]],
  ReleaseStatus: [93, 'void', [p]],
  ReleaseMemoryInfo: [94, 'void', [p]],
  ReleaseSession: [95, 'void', [p]],
  ReleaseValue: [96, 'void', [p]],
  ReleaseRunOptions: [97, 'void', [p]],
  ReleaseSessionOptions: [100, 'void', [p]],
  AddSessionConfigEntry: [130, p, [p, 'str', 'str']],
  CreateAllocator: [131, p, [p, p, out]],
  ReleaseAllocator: [132, 'void', [p]],
  RunWithBinding: [133, p, [p, p, p]],
  CreateIoBinding: [134, p, [p, out]],
  ReleaseIoBinding: [135, 'void', [p]],
  BindInput: [136, p, [p, 'str', p]],
  BindOutput: [137, p, [p, 'str', p]],
  AddInitializer: [150, p, [p, 'str', p]],
  CreatePrepackedWeightsContainer: [166, p, [out]],
  ReleasePrepackedWeightsContainer: [167, 'void', [p]],
  CreateSessionWithPrepackedWeightsContainer: [168, p, [p, pathType, p, p, out]],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, p, [p, p]],
  CreateCUDAProviderOptions: [205, p, [out]],
  UpdateCUDAProviderOptions: [206, p, [p, texts, texts, 'size_t']],
  ReleaseCUDAProviderOptions: [208, 'void', [p]],
  SessionOptionsAppendExecutionProvider: [216, p, [p, 'str', texts, texts, 'size_t']],
  RegisterCustomOpsLibrary_V2: [228, p, [p, pathType]],
  GetBuildInfoString: [254, 'str', []],
} as const satisfies Record<string, readonly [number, string, readonly string[]]>

type Name = keyof typeof table
type NativeFunction = ((...args: unknown[]) => unknown) & {
  async: (...args: unknown[]) => void
}

let libraryPath: string | undefined

/** Loads another library than the npm package's; only before anything was called. */
export function useLibrary(path: string): void {
  if (loaded !== undefined && path !== libraryPath) {
    throw new Error('ONNX Runtime is loaded already: a process has one library')
  }
  libraryPath = path
}

function loadFunctions(): Record<Name, NativeFunction> {
  libraryPath ??= packagedLibrary()
  const library = loadLibrary(libraryPath)
  // OrtApiBase { const OrtApi* (*GetApi)(uint32_t); const char* (*GetVersionString)(); }
  const base = library.func('OrtGetApiBase', p, [])() as Pointer
  const [getApiAddress] = new BigUint64Array(koffi.view(BigInt(base), 16))
  const getApi = koffi.decode(getApiAddress, koffi.proto(p, ['uint32'])) as NativeFunction
  const api = getApi(apiVersion) as Pointer
  if (api === 0) throw new Error(`ONNX Runtime does not offer version ${apiVersion} of its C API`)
  const entries = new BigUint64Array(koffi.view(BigInt(api), 8 * 300))
  const functions = Object.entries(table).map(([name, [index, result, args]]) => [
    name,
    koffi.decode(entries[index], koffi.proto(result, [...args])),
  ])
  return Object.fromEntries(functions) as Record<Name, NativeFunction>
}

let loaded: Record<Name, NativeFunction> | undefined

function functions(): Record<Name, NativeFunction> {
  if (loaded === undefined) {
    loaded = loadFunctions()
    // A slot off in the table would call a different function: this one says who it is.
    const info = String(loaded.GetBuildInfoString())
    if (!info.includes('ORT Build Info')) throw new Error('ONNX Runtime: unexpected function table')
  }
  return loaded
}

/** A failed call of ONNX Runtime, with its own words. */
export class OnnxRuntimeError extends Error {
  override readonly name = 'OnnxRuntimeError'
}

function check(name: Name, status: Pointer): void {
  if (status === 0) return
  const api = functions()
  const message = String(api.GetErrorMessage(status))
  api.ReleaseStatus(status)
  throw new OnnxRuntimeError(`${name}: ${message}`)
}

/** Calls a function that returns a status; throws OnnxRuntimeError. */
export function call(name: Name, ...args: unknown[]): void {
  check(name, functions()[name](...args) as Pointer)
}

/** The same on a worker thread, so that the event loop goes on. */
export function callAsync(name: Name, ...args: unknown[]): Promise<void> {
  const native = functions()[name]
  return new Promise((resolve, reject) => {
    native.async(...args, (error: Error | null, status: Pointer) => {
      if (error) return reject(error)
      try {
        check(name, status)
        resolve()
      } catch (failure) {
        reject(failure)
      }
    })
  })
}

export function release(name: Extract<Name, `Release${string}`>, pointer: Pointer): void {
  functions()[name](pointer)
}

// Native scratch: small typed arrays live on V8's moving heap, so out-parameters and shapes do not.
const scratchBytes = 8 * 32
let scratch: { readonly address: Pointer; readonly words: BigInt64Array } | undefined

function getScratch() {
  if (scratch === undefined) {
    const memory = koffi.alloc('uint8', scratchBytes)
    const address = Number(koffi.address(memory))
    scratch = {
      address,
      words: new BigInt64Array(koffi.view(BigInt(address), scratchBytes)),
    }
  }
  return scratch
}

/** Calls a function whose last parameter is an out-pointer and returns what it wrote. */
export function create(name: Name, ...args: unknown[]): Pointer {
  const { address, words } = getScratch()
  words[0] = 0n
  call(name, ...args, address)
  return Number(words[0])
}

/** Writes a shape to scratch for the next call (words 1…) and returns its address. */
export function nativeShape(dims: readonly number[]): Pointer {
  const { address, words } = getScratch()
  for (const [i, dim] of dims.entries()) words[i + 1] = BigInt(dim)
  return address + 8
}

/** Native memory as an ArrayBuffer; valid until that memory is freed. */
export function viewMemory(address: Pointer, bytes: number): ArrayBuffer {
  return koffi.view(BigInt(address), bytes)
}
