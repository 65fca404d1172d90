// A small builder of ONNX graphs. A node's name is its address ("/layers.0/mlp/down") and its
// output carries the same name. Weights are named and read only when the graph is written, one by
// one; small constants are kept by value and shared.

import type { FloatType } from '../contracts/float-type.ts'
import { toHalves } from '../contracts/float16.ts'

export type TensorType = FloatType | 'int32' | 'int64'
/** A number, or the name of a dimension that varies from run to run. */
export type Dim = number | string

export type Attribute = number | string | readonly number[] | { readonly float: number }

export interface Node {
  readonly name: string
  readonly op: string
  readonly domain: '' | 'com.microsoft' | 'dutyfree'
  /** '' leaves an optional input out. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Readonly<Record<string, Attribute>>
}

export interface ValueInfo {
  readonly name: string
  readonly type: TensorType
  readonly dims: readonly Dim[]
}

export interface WeightTensor {
  readonly name: string
  readonly type: FloatType | 'uint8'
  readonly dims: readonly number[]
}

/**
 * What one reading of the checkpoint gives: a matrix, or its quantised values and their scales. The
 * bytes come piece by piece when the graph is written and are then forgotten.
 */
export interface Weight {
  readonly tensors: readonly WeightTensor[]
  /** Each piece continues every tensor, in the order of `tensors`. */
  readonly pieces: () => Iterable<readonly Uint8Array[]>
  /** The checkpoint's matrices that it is made of, where an adapter may change one. */
  readonly matrices?: readonly string[]
  /** The same bytes under other names and shapes: `of` is one of `tensors`. */
  readonly aliases?: ReadonlyArray<{ readonly tensor: WeightTensor; readonly of: string }>
}

export interface Constant {
  readonly name: string
  readonly type: TensorType
  readonly dims: readonly number[]
  readonly values: readonly number[]
}

export interface Graph {
  readonly inputs: readonly ValueInfo[]
  readonly outputs: readonly ValueInfo[]
  readonly nodes: readonly Node[]
  readonly weights: readonly Weight[]
  readonly constants: readonly Constant[]
}

export interface NodeOptions {
  readonly domain?: Node['domain']
  readonly attributes?: Readonly<Record<string, Attribute>>
  /** Names of outputs when they are more than one, or bound to a name. */
  readonly outputs?: readonly string[]
}

export type GraphBuilder = ReturnType<typeof createGraphBuilder>

/** `floats`: what weights that are not integers are written in. */
export function createGraphBuilder(floats: FloatType = 'float32') {
  const inputs: ValueInfo[] = []
  const outputs: ValueInfo[] = []
  const nodes: Node[] = []
  const weights = new Map<string, Weight>()
  const constants = new Map<string, Constant>()

  function floatBytes(values: Float32Array) {
    return bytesOf(floats === 'float16' ? toHalves(values) : values)
  }

  return {
    floats,
    /** Numbers as the graph holds them. */
    floatBytes,

    input(name: string, type: TensorType, dims: readonly Dim[]): string {
      inputs.push({ name, type, dims })
      return name
    },

    output(name: string, type: TensorType, dims: readonly Dim[]): string {
      outputs.push({ name, type, dims })
      return name
    },

    /** Adds a node and returns its first output's name. */
    node(
      name: string,
      op: string,
      nodeInputs: readonly string[],
      options: NodeOptions = {},
    ): string {
      const { domain = '', attributes = {}, outputs: names = [name] } = options
      nodes.push({ name, op, domain, inputs: nodeInputs, outputs: names, attributes })
      return names[0] ?? name
    },

    /** A weight of floats that is small enough to be read whole. */
    weight(
      name: string,
      dims: readonly number[],
      read: () => Float32Array,
      matrices: readonly string[] = [],
    ): string {
      const tensors = [{ name, type: floats, dims }] as const
      const pieces = () => [[floatBytes(read())]]
      if (!weights.has(name)) weights.set(name, { tensors, pieces, matrices })
      return name
    },

    /** Any weight; later ones of the same first name are the same. */
    weights(weight: Weight): void {
      const name = weight.tensors[0]?.name ?? ''
      if (!weights.has(name)) weights.set(name, weight)
    },

    /** A small constant, addressed by its value. */
    constant(type: TensorType, values: readonly number[], dims = [values.length]): string {
      const name = `const_${type}_${dims.join('x')}_${values.join('_')}`
      constants.set(name, { name, type, dims, values })
      return name
    },

    build(): Graph {
      return {
        inputs,
        outputs,
        nodes,
        weights: [...weights.values()],
        constants: [...constants.values()],
      }
    },
  }
}

function bytesOf(values: Float32Array | Uint16Array | Uint8Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
