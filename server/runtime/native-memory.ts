// Memory for tensors: it does not move, and what is released is given back.
//
// Thousands of tensors of one size come and go (blocks of the prefix cache). ONNX Runtime's allocator is
// glibc's aligned one, whose heap grows by holes then, on Linux under Node:
//   - an aligned piece is seldom put where one of the same size has been (glibc 2.36): six times
//   - V8 maps memory right behind the heap, which then grows by pieces of 1 MiB: what does not fill
//     them is lost, up to half
// So there large tensors are mapped each by itself, and small ones are plain pieces of the heap.

import { closeSync, fstatSync, openSync } from 'node:fs'
import koffi from 'koffi'
import { loadLibrary } from './native-library.ts'
import { call, create, type Pointer } from './onnxruntime.ts'

export interface NativeMemory {
  /** A multiple of 64. */
  readonly address: Pointer
  free(): void
}

const alignment = 64
/** From so many bytes on glibc, too, maps a piece by itself, as long as it has not learned otherwise. */
const smallestMapped = 128 * 2 ** 10
const hugePageBytes = 2 * 2 ** 20

// Linux: sys/mman.h
const readOnly = 0x1
const readAndWrite = 0x1 | 0x2
const privatePages = 0x02
const privateAnonymous = 0x02 | 0x20
const hugePageAdvice = 14
const unneededAdvice = 4

let allocator: Pointer | undefined
let system: ReturnType<typeof loadSystem> | undefined

/** Zeroed on Linux; large pieces cost no physical memory until touched. */
export function allocateMemory(bytes: number): NativeMemory {
  if (process.platform !== 'linux') return ofRuntime(bytes)
  return bytes < smallestMapped ? ofHeap(bytes) : mapped(bytes)
}

function ofRuntime(bytes: number): NativeMemory {
  allocator ??= create('GetAllocatorWithDefaultOptions')
  const owner = allocator
  const address = create('AllocatorAlloc', owner, bytes)
  return { address, free: () => call('AllocatorFree', owner, address) }
}

function ofHeap(bytes: number): NativeMemory {
  const memory = koffi.alloc('uint8', bytes + alignment - 1)
  const start = Number(koffi.address(memory))
  const address = Math.ceil(start / alignment) * alignment
  return { address, free: () => koffi.free(memory) }
}

function mapped(bytes: number): NativeMemory {
  system ??= loadSystem()
  const { map, unmap, advise, wantsHugePages } = system
  const address = Number(map(0, bytes, readAndWrite, privateAnonymous, -1, 0))
  if (address === -1) throw new Error(`the system has no memory for ${bytes} bytes`)
  if (wantsHugePages && bytes >= hugePageBytes) advise(address, bytes, hugePageAdvice)
  return { address, free: () => void unmap(address, bytes) }
}

interface MappedFile extends NativeMemory {
  /** Gives back what was read of it; what is touched again is read again. */
  forget(): void
}

/** What `mapFile` needs. */
export const canMapFiles = process.platform === 'linux'

/** A file that is not empty as memory that is only read. Throws for a missing file. */
export function mapFile(path: string): MappedFile {
  system ??= loadSystem()
  const { map, unmap, advise } = system
  const file = openSync(path, 'r')
  try {
    const bytes = fstatSync(file).size
    const address = Number(map(0, bytes, readOnly, privatePages, file, 0))
    if (address === -1) throw new Error(`the system cannot map a file of ${bytes} bytes`)
    return {
      address,
      forget: () => void advise(address, bytes, unneededAdvice),
      free: () => void unmap(address, bytes),
    }
  } finally {
    closeSync(file)
  }
}

/** The functions that map memory, and whether huge pages are asked for (`engine-client/huge-pages.ts`). */
function loadSystem() {
  const libc = loadLibrary('libc.so.6')
  return {
    map: libc.func('mmap', 'int64', ['uint64', 'size_t', 'int', 'int', 'int', 'int64']),
    unmap: libc.func('munmap', 'int', ['uint64', 'size_t']),
    advise: libc.func('madvise', 'int', ['uint64', 'size_t', 'int']),
    wantsHugePages: (process.env.GLIBC_TUNABLES ?? '').includes('glibc.malloc.hugetlb=1'),
  }
}
