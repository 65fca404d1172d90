// Whether an adapter changes anything: a pair of vectors does only where neither is zero.

import type { AdapterMatrices } from './adapter-tensors.ts'

/** null: everything that the file holds has an effect. */
export function findEffectGap(matrices: readonly AdapterMatrices[]): {
  readonly text: string
  readonly isWhole: boolean
} | null {
  const idle = matrices.filter((one) => !changesAnything(one)).length
  if (idle === 0) return null
  if (idle < matrices.length) {
    const text = `adapter_model.safetensors: ${idle} of its ${matrices.length} modules are zero and change nothing.`
    return { text, isWhole: false }
  }
  return {
    text: 'adapter_model.safetensors: every module is zero, so the adapter changes nothing.',
    isWhole: true,
  }
}

function changesAnything({ rank, a, b }: AdapterMatrices): boolean {
  const inner = a.length / rank
  const outer = b.length / rank
  for (let k = 0; k < rank; k++) {
    if (hasValue(a, k * inner, inner) && hasValue(b, k * outer, outer)) return true
  }
  return false
}

function hasValue(values: Float32Array, start: number, length: number): boolean {
  for (let i = start; i < start + length; i++) if (values[i] !== 0) return true
  return false
}
