// How long a phase of the start may do without progress beyond the least time that counts as a hang, where
// its bytes cannot be counted while it runs: a time that grows with them.

import { statSync } from 'node:fs'
import { join } from 'node:path'
import { isGgufPath } from '../contracts/model-path.ts'

/** A disk that is slower than this looks like one that hangs, but where its reads are told (disk-reads.ts). */
const slowDiskBytesPerMs = 20_000
/** JSON that becomes a tokenizer, on a slow and busy core. */
const slowParseBytesPerMs = 500
/** Weights follow a GGUF file's metadata; no tokenizer is larger. */
const largestMetadataBytes = 32 << 20

/** Drivers load gigabytes of libraries, and compile their kernels. */
export const acceleratorMs = 60_000

/** So many bytes read or written once, such as weights that native code maps. */
export function diskMs(bytes: number): number {
  return bytes / slowDiskBytesPerMs
}

/** Of a checkpoint's tokenizer, read once. */
export function tokenizerParseMs(model: string): number {
  const path = isGgufPath(model) ? model : join(model, 'tokenizer.json')
  const { size = 0 } = statSync(path, { throwIfNoEntry: false }) ?? {}
  return Math.min(size, largestMetadataBytes) / slowParseBytesPerMs
}
