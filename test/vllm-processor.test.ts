// npm run vllm and npm run test:vllm, on a machine that vLLM's kernels do not run on.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { root } from './support/root.ts'

const { dtypeOf, processorFault } = await import(pathToFileURL(join(root, 'scripts/vllm.mjs')).href)

describe('the processor that vLLM needs', () => {
  const arch = 'x64'

  it('has AVX2, FMA and F16C, as the flags of /proc/cpuinfo say', () => {
    assert.equal(processorFault({ arch, flags: 'flags : sse fma avx f16c avx2 bmi2\n' }), null)
    assert.equal(processorFault({ arch: 'arm64', flags: '' }), null)
  })

  it('or else a message says what is missing, and what to do', () => {
    const message = processorFault({ arch, flags: 'flags : sse fma avx f16c avx2x\n' })
    assert.match(message, /needs AVX2, FMA and F16C; this one has no avx2: .*--upstream/)
    assert.match(processorFault({ arch, flags: '' }), /no avx2, fma, f16c/)
  })

  it('computes in bfloat16 only where the processor does', () => {
    assert.equal(dtypeOf('flags : avx2 avx512_bf16 amx_bf16\n'), 'bfloat16')
    assert.equal(dtypeOf('flags : avx2 avx512_vnni\n'), 'float32')
  })
})
