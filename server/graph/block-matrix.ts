// A matrix of integers in blocks, as MatMulNBits and our own QuantizedMatMul read it: quantised from
// floats, or in the very numbers of its file. Which of the two, and what a block has beside its scale,
// depends on the weight format and on what the file holds.

import type {
  BlockSize,
  Kernels,
  QuantizedBits,
  QuantizedFormat,
  TensorSource,
  WeightFormat,
} from '../contracts/checkpoint.ts'
import { isStoredType, type StoredType } from '../contracts/stored-blocks.ts'
import type { GraphBuilder, Weight, WeightTensor } from './builder.ts'
import { blocksPerRow, type QuantizeOptions, quantizeRows, zeroPointBytes } from './quantize.ts'
import { commonLayout, type StoredLayout, storedRows } from './stored-rows.ts'
import { inTiles, paddedRows, wholeWords } from './tiles.ts'

export interface BlockLayout {
  readonly bits: QuantizedBits
  readonly block: BlockSize
  /** What a block has beside its scale: an integer for zero, or a float that is added. */
  readonly offsets: 'none' | 'zeros' | 'mins'
}

export interface BlockMatrix {
  readonly layout: BlockLayout
  /** Integers, scales and, where the layout has them, offsets; some rows at a time. */
  readonly pieces: Weight['pieces']
}

interface MatrixContext {
  readonly graph: GraphBuilder
  readonly tensors: TensorSource
}

/** Elements that are converted at once: bounds the memory of a conversion. */
const pieceElements = 4 << 20

/** The rows of these matrices, stacked; null where the format keeps floats. */
export function blockMatrix(
  context: MatrixContext,
  format: WeightFormat,
  names: readonly string[],
): BlockMatrix | null {
  switch (format.kind) {
    case 'quantized': {
      const { bits, block, zeroPoints } = format
      const layout = { bits, block, offsets: zeroPoints ? 'zeros' : 'none' } as const
      return { layout, pieces: stacked(context.tensors, names, quantized(context, format)) }
    }
    case 'stored':
      return storedMatrix(context, names)
    default:
      return null
  }
}

/** Gives some rows of a matrix as the parts of a piece. */
type ReadPiece = (name: string, first: number, count: number) => readonly Uint8Array[]

function quantized({ graph, tensors }: MatrixContext, format: QuantizedFormat): ReadPiece {
  return (name, first, count) => {
    const options: QuantizeOptions = { ...format, columns: tensors.shape(name)[1] ?? 0 }
    const rows = quantizeRows(tensors.readRows(name, first, count), options)
    const piece = [rows.data, graph.floatBytes(rows.scales)]
    return format.zeroPoints ? [...piece, rows.zeroPoints] : piece
  }
}

/** For matrices in formats whose numbers do not fit: GGUF's own blocks, and twice Q4's bits. */
const otherwise = {
  kind: 'quantized',
  bits: 8,
  block: 32,
  zeroPoints: false,
  searchScales: false,
} as const satisfies QuantizedFormat

/** The file's format of a matrix whose numbers the graph can hold; null: it is quantised. */
function storedTypeOf(tensors: TensorSource, name: string): StoredType | null {
  const type = tensors.stored?.(name).type
  return type !== undefined && isStoredType(type) ? type : null
}

function storedMatrix(context: MatrixContext, names: readonly string[]): BlockMatrix {
  const { graph, tensors } = context
  const types = names.map((name) => storedTypeOf(tensors, name))
  const common = commonLayout(types.map((type) => type ?? 'Q8_0'))
  const quantize = quantized(context, otherwise)

  function read(name: string, first: number, count: number): readonly Uint8Array[] {
    const type = storedTypeOf(tensors, name)
    if (type === null) {
      const [data, scales] = quantize(name, first, count)
      return [data!, scales!, ...(common.hasMins ? [new Uint8Array(scales!.length)] : [])]
    }
    const rows = storedRows(tensors.stored!(name).readRows(first, count), type, common)
    const piece = [rows.data, graph.floatBytes(rows.scales)]
    return common.hasMins ? [...piece, graph.floatBytes(rows.mins)] : piece
  }

  return { layout: layoutOf(common), pieces: stacked(tensors, names, read) }
}

function layoutOf({ bits, hasMins }: StoredLayout): BlockLayout {
  return { bits, block: 32, offsets: hasMins ? 'mins' : 'none' }
}

/** Some rows at a time, so that no weight is whole in memory. */
function stacked(
  tensors: TensorSource,
  names: readonly string[],
  read: ReadPiece,
): Weight['pieces'] {
  return function* pieces() {
    for (const name of names) {
      const [numRows = 0, columns = 0] = tensors.shape(name)
      const rowsAtOnce = Math.max(1, Math.floor(pieceElements / columns))
      for (let first = 0; first < numRows; first += rowsAtOnce) {
        yield read(name, first, Math.min(rowsAtOnce, numRows - first))
      }
    }
  }
}

interface MatrixShape {
  readonly inner: number
  readonly outer: number
}

/** Rows as they lie in memory: one after the other, or side by side (tiles.ts). */
export type RowOrder = 'rows' | 'tiles'

export const orderOf = (kernels: Kernels): RowOrder => (kernels === 'own' ? 'tiles' : 'rows')

/** The matrix in that order. */
export function piecesIn(
  order: RowOrder,
  { layout: { bits, block, offsets }, pieces }: BlockMatrix,
  inner: number,
): Weight['pieces'] {
  if (order === 'rows') return pieces
  const numBlocks = blocksPerRow({ block, columns: inner })
  const [integers, floats] = [(numBlocks * block * bits) / 8, numBlocks * 4]
  const beside = { none: [], zeros: [zeroPointBytes(numBlocks, bits)], mins: [floats] }[offsets]
  return () => inTiles(pieces(), [integers, floats, ...beside])
}

/** The tensors of a product: integers, scales and, where the layout has them, offsets. */
export function productTensors(
  graph: GraphBuilder,
  name: string,
  { bits, block, offsets }: BlockLayout,
  { inner, outer }: MatrixShape,
  order: RowOrder,
): readonly WeightTensor[] {
  const numRows = order === 'tiles' ? paddedRows(outer) : outer
  const numBlocks = blocksPerRow({ block, columns: inner })
  const zeroBytes = zeroPointBytes(numBlocks, bits)
  const rowOfZeros = order === 'tiles' ? wholeWords(zeroBytes) : zeroBytes
  const tensors: readonly WeightTensor[] = [
    { name: `${name}.weight`, type: 'uint8', dims: [numRows, numBlocks, (block * bits) / 8] },
    { name: `${name}.scales`, type: graph.floats, dims: [numRows * numBlocks] },
  ]
  switch (offsets) {
    case 'none':
      return tensors
    case 'zeros':
      return [...tensors, { name: `${name}.zeros`, type: 'uint8', dims: [numRows * rowOfZeros] }]
    case 'mins':
      return [...tensors, { name: `${name}.mins`, type: graph.floats, dims: [numRows * numBlocks] }]
  }
}

/** The inputs of an operator that reads the matrix of `productTensors(graph, name, …)`. */
export function blockInputs(name: string, { offsets }: BlockLayout): readonly string[] {
  const beside = { none: [], zeros: [`${name}.zeros`], mins: ['', `${name}.mins`] }[offsets]
  return [`${name}.weight`, `${name}.scales`, ...beside]
}

/** The attributes of a product with it, as ONNX Runtime names them. */
export function blockAttributes({ bits, block }: BlockLayout, { inner, outer }: MatrixShape) {
  return { K: inner, N: outer, bits, block_size: block }
}
