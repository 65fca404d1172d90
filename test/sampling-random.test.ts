// The engine's random numbers: a function of seed and position, spread as they should be.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createRandom } from '../server/sampling/random.ts'

describe('seeded randomness', () => {
  it('gives the same number for the same seed and position, in any order of asking', () => {
    const forward = createRandom(42n)
    const backward = createRandom(42n)
    const first = Array.from({ length: 100 }, (_, position) => forward(position))
    const second = Array.from({ length: 100 }, (_, i) => backward(99 - i)).reverse()
    assert.deepEqual(first, second)
  })

  it('stays in [0, 1) and rarely repeats', () => {
    // 100,000 numbers of 53 bits: a repetition has odds of 6 in 10⁷.
    const seen = new Set<number>()
    for (let seed = 0n; seed < 100n; seed++) {
      const uniform = createRandom(seed)
      for (let position = 0; position < 1000; position++) {
        const value = uniform(position)
        assert.ok(value >= 0 && value < 1)
        seen.add(value)
      }
    }
    assert.equal(seen.size, 100_000)
  })

  it('differs between neighbouring seeds at the same position', () => {
    // Means of 10,000 absolute differences of independent uniforms are 1/3 ± 0.0024; 6 of those.
    let sum = 0
    for (let seed = 0n; seed < 10_000n; seed++) {
      sum += Math.abs(createRandom(seed)(0) - createRandom(seed + 1n)(0))
    }
    assert.ok(Math.abs(sum / 10_000 - 1 / 3) < 0.0144, `mean difference ${sum / 10_000}`)
  })

  it('is even over a hundred bins, along positions and along seeds', () => {
    // Chi-square with 99 degrees of freedom: above 200 by chance has odds of 1 in 10⁸.
    const along = [
      (i: number) => createRandom(7n)(i),
      (i: number) => createRandom(BigInt(i))(0),
      (i: number) => createRandom(-BigInt(i))(3),
    ]
    for (const draw of along) {
      const counts = new Array<number>(100).fill(0)
      for (let i = 0; i < 50_000; i++) {
        const bin = Math.floor(draw(i) * 100)
        counts[bin] = (counts[bin] ?? 0) + 1
      }
      const chiSquare = counts.reduce((sum, count) => sum + (count - 500) ** 2 / 500, 0)
      assert.ok(chiSquare < 200, `chi-square ${chiSquare}`)
    }
  })

  it('takes seeds of 64 bits, negative ones too', () => {
    const seeds = [0n, -1n, 1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 32n]
    const values = seeds.map((seed) => createRandom(seed)(0))
    assert.equal(new Set(values).size, seeds.length)
    assert.equal(createRandom(-1n)(5), createRandom(2n ** 64n - 1n)(5))
  })
})
