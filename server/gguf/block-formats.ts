// The tensor types of GGUF: what a block of each takes and holds. Types without a dequantiser
// stand here too, so that a file with one of them is checked and the type is refused by name.

interface BlockFormat {
  readonly id: number
  /** Values of a block; 1: a plain number. */
  readonly values: number
  readonly bytes: number
}

const format = (id: number, values: number, bytes: number): BlockFormat => ({ id, values, bytes })

export const blockFormats = {
  F32: format(0, 1, 4),
  F16: format(1, 1, 2),
  Q4_0: format(2, 32, 18),
  Q4_1: format(3, 32, 20),
  Q5_0: format(6, 32, 22),
  Q5_1: format(7, 32, 24),
  Q8_0: format(8, 32, 34),
  Q8_1: format(9, 32, 36),
  Q2_K: format(10, 256, 84),
  Q3_K: format(11, 256, 110),
  Q4_K: format(12, 256, 144),
  Q5_K: format(13, 256, 176),
  Q6_K: format(14, 256, 210),
  Q8_K: format(15, 256, 292),
  IQ2_XXS: format(16, 256, 66),
  IQ2_XS: format(17, 256, 74),
  IQ3_XXS: format(18, 256, 98),
  IQ1_S: format(19, 256, 50),
  IQ4_NL: format(20, 32, 18),
  IQ3_S: format(21, 256, 110),
  IQ2_S: format(22, 256, 82),
  IQ4_XS: format(23, 256, 136),
  I8: format(24, 1, 1),
  I16: format(25, 1, 2),
  I32: format(26, 1, 4),
  I64: format(27, 1, 8),
  F64: format(28, 1, 8),
  IQ1_M: format(29, 256, 56),
  BF16: format(30, 1, 2),
  TQ1_0: format(34, 256, 54),
  TQ2_0: format(35, 256, 66),
  MXFP4: format(39, 32, 17),
  NVFP4: format(40, 64, 36),
  Q1_0: format(41, 128, 18),
} as const satisfies Record<string, BlockFormat>

type KnownType = keyof typeof blockFormats

/** A type that has no name here goes by its number. */
export type GgufType = KnownType | `type ${number}`

const namesById = new Map<number, KnownType>(
  Object.entries(blockFormats).map(([name, { id }]) => [id, name as KnownType]),
)

export function typeOfId(id: number): GgufType {
  return namesById.get(id) ?? `type ${id}`
}

/** Undefined for a type that goes by its number. */
export function findBlockFormat(type: GgufType): BlockFormat | undefined {
  return blockFormats[type as KnownType]
}
