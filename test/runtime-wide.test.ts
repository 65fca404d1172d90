// Vectors of sixteen beside vectors of eight, to the last bit: attention and the gate.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { describeMachine } from '../bench/machine.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { runNative } from './support/native-program.ts'

const notBuilt = ownKernels() === null && 'own operators are not built for this machine'
const { instructionSet } = describeMachine()
const isNarrow =
  ['avx512', 'amx'].every((name) => !instructionSet.startsWith(name)) &&
  'this processor has no AVX-512'

describe('attention and gate by AVX-512', () => {
  it('give what AVX2 gives', { skip: notBuilt || isNarrow }, () => {
    // 8 numbers of heads, 16 of keys, 8 kinds of cache; gates of 0 to 100 numbers.
    const files = ['attention/narrow.c', 'attention/wide.c', 'adapter.c', 'gate_wide.c']
    assert.equal(runNative({ main: 'wide.c', files }), `${8 * 16 * 8 + 101}`)
  })
})
