// Seeded randomness by counter: the same seed and position give the same number, whatever else ran
// in between, so that a row samples alike alone and in a batch.

const mask64 = (1n << 64n) - 1n

/** A seed as two 32-bit words, well mixed (SplitMix64's finaliser). */
function mixSeed(seed: bigint): [number, number] {
  let z = (seed + 0x9e3779b97f4a7c15n) & mask64
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask64
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask64
  z ^= z >> 31n
  return [Number(z & 0xffffffffn), Number(z >> 32n)]
}

/** MurmurHash3's 32-bit finaliser. */
function mix32(value: number): number {
  let h = value | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** Returns uniform(position) in [0, 1) with 53 bits. */
export function createRandom(seed: bigint): (position: number) => number {
  const [low, high] = mixSeed(seed & mask64)
  return function uniform(position) {
    const a = mix32(low ^ mix32((position * 2 + 1) | 0))
    const b = mix32(high ^ mix32((position * 2 + 2) ^ a))
    return ((a >>> 5) * 2 ** 26 + (b >>> 6)) / 2 ** 53
  }
}
