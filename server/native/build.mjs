// Compiles the operators of this folder with the machine's C compiler ($CC, cc, gcc or clang):
//   node server/native/build.mjs <path of the library>
// Where there is none, or no code for this processor, ONNX Runtime's own kernels do the work, slower.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = dirname(fileURLToPath(import.meta.url))
const sources = ['operator.c', 'product.c']
const headers = ['onnxruntime.h', 'product.h']
// Products and sums must not be joined by the compiler: a row is the same in every batch.
const flags = ['-std=gnu11', '-O3', '-ffp-contract=off', '-fvisibility=hidden', '-fPIC', '-shared']

/** Returns null when the library is there and up to date, else why it is not. */
export function buildKernels(output) {
  if (process.arch !== 'x64' || process.platform === 'win32') {
    return `there are none for ${process.platform}-${process.arch}`
  }
  const contents = [...sources, ...headers].map((name) => readFileSync(join(folder, name)))
  const hash = createHash('sha256').update(flags.join(' '))
  for (const content of contents) hash.update(content)
  const stamp = hash.digest('hex')
  const stampPath = `${output}.sha256`
  const isBuilt = existsSync(output) && existsSync(stampPath)
  if (isBuilt && readFileSync(stampPath, 'utf8') === stamp) return null
  mkdirSync(dirname(output), { recursive: true })
  const partial = `${output}.partial`
  const paths = sources.map((name) => join(folder, name))
  const compilers = process.env.CC ? [process.env.CC] : ['cc', 'gcc', 'clang']
  for (const compiler of compilers) {
    const { error, status, stderr } = spawnSync(compiler, [...flags, '-o', partial, ...paths])
    if (error) continue
    if (status !== 0) return `${compiler} failed: ${String(stderr).trim().split('\n')[0]}`
    renameSync(partial, output)
    writeFileSync(stampPath, stamp)
    return null
  }
  return `no C compiler was found (${compilers.join(', ')})`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const reason = buildKernels(process.argv[2])
  if (reason !== null) console.error(`dutyfree: own kernels are not built: ${reason}`)
}
