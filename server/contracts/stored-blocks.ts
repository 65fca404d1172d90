// GGUF's block formats whose numbers the graph can hold as they are: integers in blocks of 32, each with
// a float32 scale and, in some, a float32 min. Formats with a scale for every 16 are not among them.

interface StoredBlocks {
  /** Values of a block as it stands in the file; one of 256 has eight of 32 in it. */
  readonly values: 32 | 256
  /** It begins with its scale as a half, and with a second half where it has mins. */
  readonly bytes: number
  /** That hold its integers in the graph. */
  readonly bits: 4 | 8
  readonly hasMins: boolean
}

export const storedBlocks = {
  Q4_0: { values: 32, bytes: 18, bits: 4, hasMins: false },
  Q4_1: { values: 32, bytes: 20, bits: 4, hasMins: true },
  Q5_0: { values: 32, bytes: 22, bits: 8, hasMins: false },
  Q5_1: { values: 32, bytes: 24, bits: 8, hasMins: true },
  Q8_0: { values: 32, bytes: 34, bits: 8, hasMins: false },
  IQ4_NL: { values: 32, bytes: 18, bits: 8, hasMins: false },
  IQ4_XS: { values: 256, bytes: 136, bits: 8, hasMins: false },
  Q4_K: { values: 256, bytes: 144, bits: 4, hasMins: true },
  Q5_K: { values: 256, bytes: 176, bits: 8, hasMins: true },
} as const satisfies Record<string, StoredBlocks>

export type StoredType = keyof typeof storedBlocks

export function isStoredType(type: string): type is StoredType {
  return Object.hasOwn(storedBlocks, type)
}
