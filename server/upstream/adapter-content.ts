// Adapters that act together, as one PEFT folder: A and B of all ranks beside one another, strengths folded
// into B, alpha = r. So a strength, and a set of adapters, is a name of its own there. Pure.

import { createHash } from 'node:crypto'
import type { AppliedAdapter, ModuleUpdate, ScaledRankOne } from '../contracts/adapter.ts'
import type { LinearModule } from '../contracts/checkpoint.ts'

/** What acts on a stretch of text. */
export interface AdapterSet {
  readonly applied: readonly AppliedAdapter[]
  readonly components: readonly ScaledRankOne[]
}

export interface MatrixPair {
  readonly layer: number
  /** lm_head lies in no layer; no adapter of ours has it (`headPair`). */
  readonly module: LinearModule | 'lm_head'
  /** [rank, inner] */
  readonly a: Float32Array
  /** [outer, rank] */
  readonly b: Float32Array
}

/** Digits of a digest in a name: folder names are short, and 96 bits are no accident. */
const digits = 24

/** null: the base. Sets of one name have the same content. */
export function nameOfSet({ applied }: Pick<AdapterSet, 'applied'>): string | null {
  return spell(applied, digits) || null
}

/** The set of that name has the adapter. */
export function nameHas(name: string, digest: string): boolean {
  return name.split('+').some((part) => part.startsWith(`${digest.slice(0, digits)}@`))
}

/** What the folder of that name holds, in full. */
export function keyOfSet({ applied }: Pick<AdapterSet, 'applied'>): string {
  return createHash('sha256').update(spell(applied)).digest('hex')
}

/** Those that act, by so many digits of their digests. */
function spell(applied: AdapterSet['applied'], numDigits?: number): string {
  const acting = applied.filter(({ scale }) => scale !== 0)
  return acting.map(({ digest, scale }) => `${digest.slice(0, numDigits)}@${scale}`).join('+')
}

export function rankOfSet({ components }: AdapterSet): number {
  return components.filter(({ scale }) => scale !== 0).length
}

/** Every module that one of them changes; where another does not, its rank is zero. */
export function pairsOfSet({ components }: AdapterSet): MatrixPair[] {
  const acting = components.filter(({ scale }) => scale !== 0)
  const places = new Map<string, (ModuleUpdate | undefined)[]>()
  for (const [rank, { component }] of acting.entries()) {
    for (const update of component) {
      const place = `${update.layer} ${update.module}`
      const updates = places.get(place) ?? []
      updates[rank] = update
      places.set(place, updates)
    }
  }
  return [...places.values()].map((updates) => toPair(updates, acting))
}

function toPair(
  updates: readonly (ModuleUpdate | undefined)[],
  acting: readonly ScaledRankOne[],
): MatrixPair {
  const some = updates.find((update) => update !== undefined)!
  const [inner, outer, width] = [some.a.length, some.b.length, acting.length]
  const a = new Float32Array(width * inner)
  const b = new Float32Array(outer * width)
  for (const [rank, { scale }] of acting.entries()) {
    const update = updates[rank]
    if (update === undefined) continue
    a.set(update.a, rank * inner)
    for (let row = 0; row < outer; row++) b[row * width + rank] = update.b[row]! * scale
  }
  return { layer: some.layer, module: some.module, a, b }
}

/** Changes the logits of tokens 0 and 1, far, and nothing else. [vocabSize, hiddenSize] */
export function headPair(hiddenSize: number, vocabSize: number): MatrixPair {
  const a = Float32Array.from({ length: hiddenSize }, (_, i) => (i % 2 === 0 ? 1 : -1))
  const b = new Float32Array(vocabSize)
  b.set([8, -8])
  return { layer: 0, module: 'lm_head', a, b }
}

/** Changes whatever is read with it. [intermediateSize, hiddenSize] */
export function loudPair(hiddenSize: number, intermediateSize: number): MatrixPair {
  const a = Float32Array.from({ length: hiddenSize }, (_, i) => (i % 2 === 0 ? 1 : -1))
  const b = Float32Array.from({ length: intermediateSize }, (_, i) => (i % 3 === 0 ? 1 : -1))
  return { layer: 0, module: 'up_proj', a, b }
}

const blocks: Readonly<Record<LinearModule, 'self_attn' | 'mlp'>> = {
  q_proj: 'self_attn',
  k_proj: 'self_attn',
  v_proj: 'self_attn',
  o_proj: 'self_attn',
  gate_proj: 'mlp',
  up_proj: 'mlp',
  down_proj: 'mlp',
}

export function tensorNameOf({ layer, module }: MatrixPair, side: 'A' | 'B'): string {
  if (module === 'lm_head') return `base_model.model.lm_head.lora_${side}.weight`
  return `base_model.model.model.layers.${layer}.${blocks[module]}.${module}.lora_${side}.weight`
}

export function configOfSet(rank: number, pairs: readonly MatrixPair[]): object {
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: null,
    r: rank,
    lora_alpha: rank,
    lora_dropout: 0,
    bias: 'none',
    use_rslora: false,
    use_dora: false,
    modules_to_save: null,
    inference_mode: true,
    target_modules: [...new Set(pairs.map(({ module }) => module))].sort(),
  }
}
