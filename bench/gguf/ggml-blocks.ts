// llama.cpp's block formats, from float32: 32 values of a row share one half-precision scale.

export const blockSize = 32

export type BlockType = 'Q4_0' | 'Q8_0'

export const blockBytes: Readonly<Record<BlockType, number>> = { Q4_0: 18, Q8_0: 34 }

const floatWord = new Float32Array(1)
const floatBits = new Uint32Array(floatWord.buffer)

/** The nearest half-precision number's bits; ties to even, overflow to infinity. */
export function toHalf(value: number): number {
  floatWord[0] = value
  const bits = floatBits[0]!
  const sign = (bits >>> 16) & 0x8000
  const magnitude = Math.abs(floatWord[0]!)
  if (!(magnitude < 65520)) return sign | (Number.isNaN(value) ? 0x7e00 : 0x7c00)
  // Below 2^-14 halves are multiples of 2^-24.
  if (magnitude < 2 ** -14) return sign | roundHalfEven(magnitude * 2 ** 24)
  const exponent = Math.floor(Math.log2(magnitude))
  const shift = magnitude < 2 ** exponent ? exponent - 1 : exponent
  // A mantissa that rounds up to 2 carries into the exponent by itself.
  return sign | (((shift + 14) << 10) + roundHalfEven((magnitude / 2 ** shift) * 1024))
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}

/** Quantises whole rows; their length is a multiple of 32. */
export function quantizeBlocks(values: Float32Array, type: BlockType): Uint8Array {
  if (values.length % blockSize !== 0) {
    throw new Error(`blocks hold ${blockSize} values; got ${values.length}`)
  }
  const numBlocks = values.length / blockSize
  const bytes = new Uint8Array(numBlocks * blockBytes[type])
  const write = type === 'Q4_0' ? writeQ4 : writeQ8
  for (let block = 0; block < numBlocks; block++) {
    write(values, block * blockSize, bytes, block * blockBytes[type])
  }
  return bytes
}

/** The value of largest magnitude becomes −8; value i and value i + 16 share a byte. */
function writeQ4(values: Float32Array, from: number, bytes: Uint8Array, at: number): void {
  let extreme = 0
  for (let i = 0; i < blockSize; i++) {
    const value = values[from + i]!
    if (Math.abs(value) > Math.abs(extreme)) extreme = value
  }
  const scale = extreme / -8
  const inverse = scale === 0 ? 0 : 1 / scale
  writeScale(bytes, at, scale)
  for (let i = 0; i < 16; i++) {
    const low = Math.min(15, Math.floor(values[from + i]! * inverse + 8.5))
    const high = Math.min(15, Math.floor(values[from + 16 + i]! * inverse + 8.5))
    bytes[at + 2 + i] = low | (high << 4)
  }
}

function writeQ8(values: Float32Array, from: number, bytes: Uint8Array, at: number): void {
  let largest = 0
  for (let i = 0; i < blockSize; i++) largest = Math.max(largest, Math.abs(values[from + i]!))
  const scale = largest / 127
  const inverse = scale === 0 ? 0 : 1 / scale
  writeScale(bytes, at, scale)
  for (let i = 0; i < blockSize; i++) bytes[at + 2 + i] = Math.round(values[from + i]! * inverse)
}

function writeScale(bytes: Uint8Array, at: number, scale: number): void {
  const half = toHalf(scale)
  bytes[at] = half & 0xff
  bytes[at + 1] = half >>> 8
}
