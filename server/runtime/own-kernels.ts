// The library of our own operators for ONNX Runtime (server/native), compiled when the server is built.

import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { loadLibrary } from './native-library.ts'

const builtPath = fileURLToPath(new URL('../native/kernels.so', import.meta.url))

let path: string | null | undefined

/** Its path; null where it was not compiled, or is for other processors than this one. */
export function ownKernels(): string | null {
  if (path === undefined) path = existsSync(builtPath) && canRun() ? builtPath : null
  return path
}

function canRun(): boolean {
  return loadLibrary(builtPath).func('dutyfree_can_run', 'int', [])() === 1
}
