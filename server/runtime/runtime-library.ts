// Where ONNX Runtime's shared library lies: in the npm package, or in a folder that the operator
// names, such as the `onnxruntime/capi` of a Python wheel. CUDA comes as a second library, which
// ONNX Runtime looks for beside its own.

import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { ServerError } from '../errors.ts'

function isRuntime(name: string) {
  return /^(lib)?onnxruntime(\.so(\.\d+)*|(\.[\d.]+)?\.dylib|\.dll)$/.test(name)
}

function isCudaProvider(name: string) {
  return /^(lib)?onnxruntime_providers_cuda\.(so|dll)$/.test(name)
}

function find(folder: string, isWanted: (name: string) => boolean): string | undefined {
  const name = existsSync(folder) ? readdirSync(folder).sort().find(isWanted) : undefined
  return name === undefined ? undefined : join(folder, name)
}

function packagedFolder(): string {
  const require = createRequire(import.meta.url)
  const packageRoot = dirname(require.resolve('onnxruntime-node/package.json'))
  return join(packageRoot, 'bin', 'napi-v6', process.platform, process.arch)
}

/** The npm package's own. */
export function packagedLibrary(): string {
  const path = find(packagedFolder(), isRuntime)
  if (path !== undefined) return path
  throw new Error(
    `onnxruntime-node carries no library for ${process.platform}-${process.arch}; ` +
      'reinstall the npm packages on this machine (npm ci)',
  )
}

/** The library in the operator's folder. */
export function libraryIn(folder: string): string {
  const path = find(folder, isRuntime)
  if (path !== undefined) return path
  throw new ServerError(
    'invalid_config',
    `--onnxruntime must be a folder that holds ONNX Runtime's library (libonnxruntime.so…); ` +
      `got ${JSON.stringify(folder)}`,
  )
}

/** Refuses when there is no CUDA part beside the library that will be loaded. */
export function requireCudaProvider(folder: string | null): void {
  const where = folder ?? packagedFolder()
  if (find(where, isCudaProvider) !== undefined) return
  throw new ServerError(
    'device_unavailable',
    `--device cuda needs ONNX Runtime's CUDA provider, which is not in ${where}. ` +
      'Get it with ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node, or name a folder ' +
      'that has it with --onnxruntime (in a Python environment with onnxruntime-gpu: ' +
      'site-packages/onnxruntime/capi).',
  )
}
