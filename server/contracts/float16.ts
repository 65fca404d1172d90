// IEEE half precision, from and to float32: JavaScript has no such array on every Node that we support.

const value = new Float32Array(1)
const bits = new Uint32Array(value.buffer)

/** The nearest half, ties to even, as its 16 bits; beyond 65,504 it is infinite. */
export function toHalf(number: number): number {
  value[0] = number
  const single = bits[0]!
  const sign = (single >>> 16) & 0x8000
  const exponent = ((single >>> 23) & 0xff) - 112
  const mantissa = single & 0x7fffff
  if (exponent >= 31) {
    const isNan = exponent === 143 && mantissa !== 0
    return sign | 0x7c00 | (isNan ? 0x200 : 0)
  }
  // Subnormal halves are multiples of 2^-24; what is less than half of one is zero.
  const shift = exponent > 0 ? 13 : Math.min(14 - exponent, 25)
  const whole = exponent > 0 ? (exponent << 23) | mantissa : mantissa | 0x800000
  const kept = whole >>> shift
  const rest = whole & ((1 << shift) - 1)
  const middle = 1 << (shift - 1)
  const isUp = rest > middle || (rest === middle && (kept & 1) === 1)
  // A carry runs into the exponent, as it should.
  return sign | (kept + (isUp ? 1 : 0))
}

export function toHalves(values: ArrayLike<number>): Uint16Array {
  const halves = new Uint16Array(values.length)
  for (let i = 0; i < halves.length; i++) halves[i] = toHalf(values[i]!)
  return halves
}

let known: Float32Array | undefined

/** The value of each of the 65,536 half floats; built on first use. */
export function halfValues(): Float32Array {
  if (known) return known
  const table = new Float32Array(65536)
  const words = new Uint32Array(table.buffer)
  for (let half = 0; half < 65536; half++) {
    const sign = (half & 0x8000) << 16
    const exponent = (half >> 10) & 0x1f
    const fraction = half & 0x3ff
    if (exponent === 0) {
      // Subnormal: fraction · 2^−24, exact in float32.
      table[half] = fraction * 2 ** -24
      words[half]! |= sign
    } else if (exponent === 31) {
      words[half] = sign | 0x7f800000 | (fraction << 13)
    } else {
      words[half] = sign | ((exponent + 112) << 23) | (fraction << 13)
    }
  }
  known = table
  return table
}
