// AMX's products beside AVX2's, to the last bit: by its own instructions where the processor has them, and
// everywhere by a model of what they do.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { describeMachine } from '../bench/machine.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const avx2 = ['-mavx2', '-mfma', '-mf16c']
const amx = ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mamx-tile', '-mamx-int8']

/** What test/native/amx.c prints, compiled with those flags. */
function compare(name: string, flags: readonly string[]): string {
  const native = join(root, 'server', 'native')
  const program = join(temp, name)
  const sources = ['rounding.c', 'tiles/avx2.c', 'tiles/amx.c'].map((file) => join(native, file))
  const usual = ['-std=gnu11', '-O1', '-ffp-contract=off', ...avx2]
  execFileSync(process.env.CC ?? 'gcc', [
    ...usual,
    ...flags,
    join(root, 'test', 'native', 'amx.c'),
    ...sources,
    '-o',
    program,
  ])
  return execFileSync(program, { encoding: 'utf8' }).trim()
}

const notBuilt = ownKernels() === null && 'own operators are not built for this machine'
const lacksAmx = describeMachine().instructionSet !== 'amx' && 'this processor has no AMX'

describe('products of AMX', () => {
  it('are AVX2’s by a model of its instructions, and not without their shapes', {
    skip: notBuilt,
  }, () => {
    assert.equal(compare('model', ['-DAMX_MODEL']), '1 0')
  })

  it('are left out where the compiler has no code for them', { skip: notBuilt }, () => {
    // A compiler that fails ends with another.
    const cannotRun = (error: { status?: number }) => error.status === 3
    assert.throws(() => compare('without', ['-DWITHOUT_AMX']), cannotRun)
  })

  it('are AVX2’s by its instructions', { skip: notBuilt || lacksAmx }, () => {
    assert.equal(compare('amx', amx), '1')
  })
})
