// Compiles the operators of this folder with the machine's C compiler ($CC, gcc, cc or clang):
//   node server/native/build.mjs <path of the library>
// Where there is none, or no code for this processor, ONNX Runtime's own kernels do the work, slower.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = dirname(fileURLToPath(import.meta.url))
const avx2 = ['-mavx2', '-mfma', '-mf16c']
const avx512 = ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mavx512vnni']
/** Each with the instructions that it may use; who calls it asks the processor first. */
const sources = {
  'library.c': [],
  'quantized_mat_mul.c': [],
  'gated_product.c': [],
  'site.c': [],
  'embed_rows.c': [],
  'cached_attention.c': [],
  'adapter_operators.c': [],
  'adapter.c': avx2,
  'gate_wide.c': [...avx2, ...avx512],
  'attention/narrow.c': avx2,
  'attention/wide.c': [...avx2, ...avx512],
  'product.c': [],
  'rounding.c': avx2,
  'tiles/avx2.c': avx2,
  'tiles/vnni.c': [...avx2, ...avx512],
  'tiles/amx.c': [...avx2, ...avx512, '-mprefer-vector-width=512', '-mamx-tile', '-mamx-int8'],
}
/** In place of its instructions, where the compiler does not know them. */
const without = { 'tiles/amx.c': ['-DWITHOUT_AMX'] }
const headers = [
  'adapter.h',
  'attention/attend.h',
  'attention/attention.h',
  'attention/turned.h',
  'onnxruntime.h',
  'operator.h',
  'product.h',
  'site.h',
  'tiles/amx.h',
  'tiles/table.h',
  'tiles/tiles.h',
  'vectors.h',
]
// Products and sums must not be joined by the compiler: a row is the same in every batch.
const flags = ['-std=gnu11', '-O3', '-ffp-contract=off', '-fvisibility=hidden', '-fPIC']
/** Sums in the order that is written: gcc's own orders need more registers than there are. */
const gccFlags = ['-fno-tree-reassoc', '-fno-tree-ter']

/** For who compiles parts of it. */
export const rules = { flags, sources }

/** Returns null when the library is there and up to date, else why it is not. */
export function buildKernels(output) {
  if (process.arch !== 'x64' || process.platform === 'win32') {
    return `there are none for ${process.platform}-${process.arch}`
  }
  const hash = createHash('sha256').update(JSON.stringify([sources, without, flags, gccFlags]))
  for (const name of [...Object.keys(sources), ...headers]) {
    hash.update(readFileSync(join(folder, name)))
  }
  const stamp = hash.digest('hex')
  const stampPath = `${output}.sha256`
  const isBuilt = existsSync(output) && existsSync(stampPath)
  if (isBuilt && readFileSync(stampPath, 'utf8') === stamp) return null
  rmSync(output, { force: true }) // Of other sources: rather none.
  const compilers = process.env.CC ? [process.env.CC] : ['gcc', 'cc', 'clang']
  const compiler = compilers.find((name) => !spawnSync(name, ['--version']).error)
  if (compiler === undefined) return `no C compiler was found (${compilers.join(', ')})`
  const objects = mkdtempSync(join(tmpdir(), 'dutyfree-kernels-'))
  try {
    mkdirSync(dirname(output), { recursive: true })
    compile(compiler, objects, `${output}.partial`)
    renameSync(`${output}.partial`, output)
    writeFileSync(stampPath, stamp)
    return null
  } catch (error) {
    return `${compiler} failed: ${error.message}`
  } finally {
    rmSync(objects, { recursive: true })
  }
}

/** Compiles every source to an object in that folder, and links them to a library at `output`. */
function compile(compiler, folderOfObjects, output) {
  const run = (args) => {
    const { status, stderr } = spawnSync(compiler, args, { encoding: 'utf8' })
    if (status !== 0) throw new Error(stderr.trim().split('\n')[0])
  }
  const { stdout } = spawnSync(compiler, ['--version'], { encoding: 'utf8' })
  const all = stdout.includes('Free Software Foundation') ? [...flags, ...gccFlags] : flags
  const objects = Object.entries(sources).map(([name, instructions]) => {
    const object = join(folderOfObjects, `${basename(name)}.o`)
    const compileBy = (more) => run([...all, ...more, '-c', join(folder, name), '-o', object])
    try {
      compileBy(instructions)
    } catch (error) {
      if (without[name] === undefined) throw error
      compileBy(without[name])
    }
    return object
  })
  run(['-shared', ...objects, '-o', output])
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const reason = buildKernels(process.argv[2])
  if (reason !== null) console.error(`dutyfree: own kernels are not built: ${reason}`)
}
