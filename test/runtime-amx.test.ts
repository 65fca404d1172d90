// AMX's products beside AVX2's, to the last bit: by its own instructions where the processor has them, and
// everywhere by a model of what they do.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { describeMachine } from '../bench/machine.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { runNative } from './support/native-program.ts'

const avx2 = ['-mavx2', '-mfma', '-mf16c']

/** What test/native/amx.c prints, whose products by AMX are compiled with those flags; null: as usual. */
function compare(flags: readonly string[] | null): string {
  return runNative({
    main: 'amx.c',
    files: ['rounding.c', 'tiles/avx2.c', 'tiles/amx.c'],
    instead:
      flags === null ? {} : { 'tiles/amx.c': [...avx2, ...flags], 'amx.c': [...avx2, ...flags] },
  })
}

const notBuilt = ownKernels() === null && 'own operators are not built for this machine'
const lacksAmx = describeMachine().instructionSet !== 'amx' && 'this processor has no AMX'

describe('products of AMX', () => {
  it('are AVX2’s by a model of its instructions, and not without their shapes', {
    skip: notBuilt,
  }, () => {
    assert.equal(compare(['-DAMX_MODEL']), '1 0')
  })

  it('are left out where the compiler has no code for them', { skip: notBuilt }, () => {
    // A compiler that fails ends with another.
    const cannotRun = (error: { status?: number }) => error.status === 3
    assert.throws(() => compare(['-DWITHOUT_AMX']), cannotRun)
  })

  it('are AVX2’s by its instructions', { skip: notBuilt || lacksAmx }, () => {
    assert.equal(compare(null), '1')
  })
})
