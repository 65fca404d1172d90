// How long a phase of the start may do without progress beyond the least time that counts as a hang, where
// its bytes cannot be counted while it runs: a time that grows with them.

import { statSync } from 'node:fs'

/** A disk that is slower than this looks like one that hangs. */
const slowDiskBytesPerMs = 20_000
/** JSON that becomes a tokenizer, on a slow and busy core. */
const slowParseBytesPerMs = 500

/** Drivers load gigabytes of libraries, and compile their kernels. */
export const acceleratorMs = 60_000

/** So many bytes read or written once, such as weights that native code maps. */
export function diskMs(bytes: number): number {
  return bytes / slowDiskBytesPerMs
}

export function parseMs(path: string): number {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) / slowParseBytesPerMs
}
