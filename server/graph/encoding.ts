// A graph as ONNX bytes. Weights are not in them: each names a file beside the model, an offset and a
// length in it, so that large models never pass through protobuf.

import onnxProto, { type onnx as Onnx } from 'onnx-proto'
import type {
  Attribute,
  Constant,
  Graph,
  Node,
  TensorType,
  ValueInfo,
  WeightTensor,
} from './builder.ts'

const { onnx } = onnxProto // a CommonJS module

/** Offsets at which weights start; memory-mapped files want whole pages. */
const alignment = 4096
export const weightsFileName = 'weights.bin'

export interface WeightPlacement {
  readonly tensor: WeightTensor
  /** From the model's folder. */
  readonly file: string
  readonly offset: number
  readonly bytes: number
}

const dataTypes = {
  float32: onnx.TensorProto.DataType.FLOAT,
  float16: onnx.TensorProto.DataType.FLOAT16,
  int32: onnx.TensorProto.DataType.INT32,
  int64: onnx.TensorProto.DataType.INT64,
  uint8: onnx.TensorProto.DataType.UINT8,
} as const satisfies Record<TensorType | WeightTensor['type'], number>

const elementBytes = { float32: 4, float16: 2, uint8: 1 } as const satisfies Record<
  WeightTensor['type'],
  number
>

/** Where each weight lies in the weights file, and that file's size. */
export function placeWeights(
  graph: Pick<Graph, 'weights'>,
  file = weightsFileName,
): { placements: WeightPlacement[]; size: number } {
  let offset = 0
  const placements = graph.weights.flatMap(({ tensors, aliases = [] }) => {
    const placed = tensors.map((tensor) => {
      const bytes = elementBytes[tensor.type] * tensor.dims.reduce((n, dim) => n * dim, 1)
      const placement = { tensor, file, offset, bytes }
      offset = Math.ceil((offset + bytes) / alignment) * alignment
      return placement
    })
    const renamed = aliases.map(({ tensor, of }) => {
      const original = placed.find((placement) => placement.tensor.name === of)
      if (original === undefined) throw new Error(`alias of an unknown weight: ${of}`)
      return { ...original, tensor }
    })
    return [...placed, ...renamed]
  })
  return { placements, size: offset }
}

/** The model file's bytes; its weights are looked up from the same folder. */
export function encodeModel(graph: Graph, placements: readonly WeightPlacement[]): Uint8Array {
  const model = onnx.ModelProto.create({
    irVersion: 10,
    producerName: 'dutyfree',
    opsetImport: [
      { domain: '', version: 18 },
      { domain: 'com.microsoft', version: 1 },
      ...(graph.nodes.some(({ domain }) => domain === 'dutyfree')
        ? [{ domain: 'dutyfree', version: 1 }]
        : []),
    ],
    graph: {
      name: 'decoder',
      node: graph.nodes.map(encodeNode),
      input: graph.inputs.map(encodeValue),
      output: graph.outputs.map(encodeValue),
      initializer: [...placements.map(encodeWeight), ...graph.constants.map(encodeConstant)],
    },
  })
  return onnx.ModelProto.encode(model).finish()
}

function encodeNode(node: Node): Onnx.INodeProto {
  return {
    name: node.name,
    opType: node.op,
    domain: node.domain,
    input: [...node.inputs],
    output: [...node.outputs],
    attribute: Object.entries(node.attributes).map(([name, value]) => encodeAttribute(name, value)),
  }
}

function encodeAttribute(name: string, value: Attribute): Onnx.IAttributeProto {
  const types = onnx.AttributeProto.AttributeType
  if (typeof value === 'number') return { name, type: types.INT, i: value }
  if (typeof value === 'string') return { name, type: types.STRING, s: Buffer.from(value) }
  if ('float' in value) return { name, type: types.FLOAT, f: value.float }
  return { name, type: types.INTS, ints: [...value] }
}

function encodeValue({ name, type, dims }: ValueInfo): Onnx.IValueInfoProto {
  const dim = dims.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: d }))
  return { name, type: { tensorType: { elemType: dataTypes[type], shape: { dim } } } }
}

function encodeWeight({ tensor, file, offset, bytes }: WeightPlacement): Onnx.ITensorProto {
  return {
    name: tensor.name,
    dims: [...tensor.dims],
    dataType: dataTypes[tensor.type],
    dataLocation: onnx.TensorProto.DataLocation.EXTERNAL,
    externalData: [
      { key: 'location', value: file },
      { key: 'offset', value: String(offset) },
      { key: 'length', value: String(bytes) },
    ],
  }
}

function encodeConstant({ name, type, dims, values }: Constant): Onnx.ITensorProto {
  const base = { name, dims: [...dims], dataType: dataTypes[type] }
  if (type === 'float32') return { ...base, floatData: [...values] }
  if (type === 'int32') return { ...base, int32Data: [...values] }
  return { ...base, int64Data: [...values] }
}
