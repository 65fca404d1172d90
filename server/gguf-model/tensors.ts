// The tensors of a GGUF file under the names and in the order of Hugging Face.
//
// llama.cpp's converter stores the rows of q and k of the llama family so that the two halves that
// rotate together alternate: within a head of d rows, row j · d/2 + i (j: half, i: pair) became row
// 2i + j. Reading undoes that; rows of other families stand as they stood.

import type { GgufFile, GgufTensor } from '../gguf/gguf-file.ts'
import { type Family, type GgufShape, readGgufShape } from './config.ts'
import { divisorsName } from './rope.ts'

const ofModel: Readonly<Record<string, string>> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
}
const ofLayer: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
}

/** A tensor that this server has no name for keeps its own, by which it is refused. */
function huggingFaceName(name: string): string {
  const layer = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name)
  if (layer && Object.hasOwn(ofLayer, layer[2]!)) {
    return `model.layers.${layer[1]}.${ofLayer[layer[2]!]}.${layer[3]}`
  }
  const [module = '', kind = ''] = name.split('.')
  return Object.hasOwn(ofModel, module) && name === `${module}.weight`
    ? `${ofModel[module]}.${kind}`
    : name
}

function isRotated(family: Family, name: string): boolean {
  return family === 'llama' && /^blk\.\d+\.attn_[qk]\./.test(name)
}

export interface GgufWeights extends GgufShape {
  /** By Hugging Face's names. */
  readonly tensors: ReadonlyMap<string, GgufTensor>
  read(name: string): Float32Array
  /** Rows in the order of Hugging Face, as float32. */
  readRows(name: string, first: number, count: number): Float32Array
  /** The same rows' blocks as they are stored. */
  readStoredRows(name: string, first: number, count: number): Uint8Array
}

export function readGgufWeights(file: GgufFile): GgufWeights {
  const shape = readGgufShape(file)
  const names = new Map<string, string>()
  for (const name of file.tensors.keys()) {
    if (name !== divisorsName) names.set(huggingFaceName(name), name)
  }

  function ownName(name: string): string {
    const own = names.get(name)
    if (own === undefined) throw new RangeError(`no tensor ${JSON.stringify(name)}`)
    return own
  }

  function inOrder<T extends Float32Array | Uint8Array>(
    name: string,
    [first, count]: readonly [number, number],
    read: (own: string, first: number, count: number) => T,
  ): T {
    const own = ownName(name)
    if (!isRotated(shape.family, own)) return read(own, first, count)
    return halvesApart(shape.headDim, first, count, (from, rows) => read(own, from, rows))
  }

  return {
    ...shape,
    tensors: new Map([...names].map(([name, own]) => [name, file.tensors.get(own)!])),
    read(name) {
      const rows = file.tensors.get(ownName(name))!.shape[0] ?? 1
      return inOrder(name, [0, rows], (own) => file.readFloat32(own))
    },
    readRows: (name, first, count) =>
      inOrder(name, [first, count], (own, from, rows) => file.readFloat32Rows(own, from, rows)),
    readStoredRows: (name, first, count) =>
      inOrder(name, [first, count], (own, from, rows) => file.readStoredRows(own, from, rows)),
  }
}

/** Reads whole heads, and takes the rows that were asked for out of them. */
function halvesApart<T extends Float32Array | Uint8Array>(
  headDim: number,
  first: number,
  count: number,
  read: (first: number, count: number) => T,
): T {
  const from = Math.floor(first / headDim) * headDim
  const rows = Math.ceil((first + count) / headDim) * headDim - from
  const stored = read(from, rows)
  const length = rows === 0 ? 0 : stored.length / rows
  const out = stored.slice(0, count * length) as T
  for (let i = 0; i < count; i++) {
    const row = storedRow(first + i, headDim) - from
    out.set(stored.subarray(row * length, (row + 1) * length), i * length)
  }
  return out
}

function storedRow(row: number, headDim: number): number {
  const half = headDim / 2
  const inHead = row % headDim
  const side = inHead < half ? 0 : 1
  return row - inHead + 2 * (inHead - side * half) + side
}
