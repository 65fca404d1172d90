// The device that the model runs on: opened once, tried with two additions, and refused with what is
// missing where it cannot be used.

import type { Device } from '../contracts/engine.ts'
import type { FloatType } from '../contracts/float-type.ts'
import { ServerError } from '../errors.ts'
import { createGraphBuilder } from '../graph/builder.ts'
import { encodeModel } from '../graph/encoding.ts'
import { OnnxRuntimeError, useLibrary } from './onnxruntime.ts'
import { libraryIn, requireCudaProvider } from './runtime-library.ts'
import { type Accelerator, allocateTensor, openSession } from './session.ts'

export interface ModelDevice {
  readonly name: Device
  /** null: the CPU. */
  readonly accelerator: Accelerator | null
  /** It can compute in float16. The CPU only as far as ONNX Runtime converts there and back. */
  readonly hasFloat16: boolean
}

export const cpuDevice: ModelDevice = { name: 'cpu', accelerator: null, hasFloat16: false }

const accelerators = {
  webgpu: { provider: 'WebGPU', memory: 'WebGPU_Buf' },
  cuda: { provider: 'CUDA', memory: 'Cuda' },
} as const satisfies Record<Exclude<Device, 'cpu'>, Accelerator>

/**
 * Throws ServerError where there is no such device. `library`: the folder of another ONNX Runtime
 * than the npm package's.
 */
export function openDevice(name: Device, library: string | null): ModelDevice {
  if (library !== null) useLibrary(libraryIn(library))
  if (name === 'cpu') return cpuDevice
  if (name === 'cuda') requireCudaProvider(library)
  const accelerator = accelerators[name]
  try {
    add(accelerator, 'float32')
  } catch (error) {
    if (!(error instanceof OnnxRuntimeError)) throw error
    throw new ServerError('device_unavailable', missing(name, error), { cause: error })
  }
  return { name, accelerator, hasFloat16: canAddHalves(accelerator) }
}

function canAddHalves(accelerator: Accelerator): boolean {
  try {
    add(accelerator, 'float16')
    return true
  } catch (error) {
    if (error instanceof OnnxRuntimeError) return false
    throw error
  }
}

/** Adds a number to itself on the device; throws OnnxRuntimeError. */
function add(accelerator: Accelerator, floats: FloatType): void {
  const graph = createGraphBuilder(floats)
  const input = graph.input('x', floats, [1])
  graph.output('y', floats, [1])
  graph.node('/sum', 'Add', [input, input], { outputs: ['y'] })
  const bytes = encodeModel(graph.build(), [])
  const session = openSession({ graph: bytes, threads: 1, accelerator, isQuiet: true })
  const x = allocateTensor(floats, [1])
  const y = allocateTensor(floats, [1])
  x.data[0] = 0
  const binding = session.bind(new Map([['x', x]]), new Map([['y', y]]))
  try {
    binding.runBlocking()
  } finally {
    binding.release()
    for (const tensor of [x, y]) tensor.release()
    session.release()
  }
}

function missing(name: Exclude<Device, 'cpu'>, error: OnnxRuntimeError): string {
  switch (name) {
    case 'webgpu':
      return (
        '--device webgpu found no GPU that it can use: a driver for Vulkan (Linux), Direct3D 12 ' +
        '(Windows) or Metal (macOS) is needed. On Linux install libvulkan1 and the driver of ' +
        `your card (vulkaninfo shows what there is), or use --device cpu. ${lastWords(error)}`
      )
    case 'cuda':
      return (
        '--device cuda could not be opened: an NVIDIA driver, CUDA 12 and cuDNN 9 are needed, and ' +
        `their libraries must be found (LD_LIBRARY_PATH), or use --device cpu. ${lastWords(error)}`
      )
  }
}

/** ONNX Runtime's own words, on one line and without the places in its source. */
function lastWords({ message }: OnnxRuntimeError): string {
  const line = message.replace(/\s+/g, ' ').trim()
  const told = /(?:was false\.|FAIL :) (.*)$/.exec(line)?.[1] ?? line
  return `ONNX Runtime says: ${told.slice(0, 300)}`
}
