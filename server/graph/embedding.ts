// Both ends of the decoder: the embedding of tokens, and lm_head with its logits. Where they are tied,
// they read the same bytes.

import type { ModelConfig } from '../contracts/checkpoint.ts'
import {
  type BlockLayout,
  type BlockMatrix,
  blockAttributes,
  blockInputs,
  blockMatrix,
  piecesIn,
  productTensors,
} from './block-matrix.ts'
import type { WeightTensor } from './builder.ts'
import { type LinearContext, linear, quantizedMatMul } from './linear.ts'
import { blocksPerRow, zeroPointBytes } from './quantize.ts'

/**
 * The graph's input of the tokens whose logits are wanted, the first negative: of all. Logits of others
 * are undefined then, where own kernels multiply blocks; else all are computed.
 */
export const wantedTokens = 'wanted_tokens'

export interface EmbeddingContext extends LinearContext {
  readonly config: ModelConfig
}

const embeddingName = 'model.embed_tokens.weight'
const embeddingData = 'embed'

/** Token ids → their embeddings. Tied and in blocks, lm_head reads the very same bytes. */
export function embed(context: EmbeddingContext, ids: string): string {
  const { graph, config, tensors, format } = context
  const matrix = blockMatrix(context, format, [embeddingName])
  if (matrix === null) {
    const read = () => tensors.read(embeddingName)
    const floats = graph.weight(embeddingData, [config.vocabSize, config.hiddenSize], read)
    return graph.node('/embed', 'Gather', [floats, ids])
  }
  if (context.kernels === 'own') return embedRows(context, matrix, ids)
  const { vocabSize, hiddenSize } = config
  const { layout, pieces } = matrix
  const { bits, block, offsets } = layout
  if (offsets === 'mins') throw new Error('mins need our own kernels')
  const numBlocks = blocksPerRow({ block, columns: hiddenSize })
  const rowBytes = (hiddenSize * bits) / 8
  const own: readonly WeightTensor[] = [
    { name: embeddingData, type: 'uint8', dims: [vocabSize, rowBytes] },
    { name: `${embeddingData}.scales`, type: graph.floats, dims: [vocabSize, numBlocks] },
    ...(offsets === 'none' ? [] : [zerosOf(vocabSize, zeroPointBytes(numBlocks, bits))]),
  ]
  const shape = { inner: hiddenSize, outer: vocabSize }
  const head = productTensors(graph, headName, layout, shape, 'rows')
  const aliases = head.map((tensor, i) => ({ tensor, of: own[i]?.name ?? '' }))
  graph.weights({
    tensors: own,
    pieces: () => withoutPadding(pieces(), (numBlocks * block * bits) / 8, rowBytes),
    aliases: sharesHead(context, layout) ? aliases : [],
  })
  const [data = '', ...parameters] = own.map(({ name }) => name)
  return graph.node('/embed', 'GatherBlockQuantized', [data, ids, ...parameters], {
    domain: 'com.microsoft',
    attributes: { bits, block_size: block, gather_axis: 0, quantize_axis: 1 },
  })
}

function zerosOf(numRows: number, bytes: number): WeightTensor {
  return { name: `${embeddingData}.zeros`, type: 'uint8', dims: [numRows, bytes] }
}

/** Our own operator knows mins, last blocks that are not full, and rows side by side. */
function embedRows(
  { graph, config: { vocabSize, hiddenSize } }: EmbeddingContext,
  matrix: BlockMatrix,
  ids: string,
): string {
  const shape = { inner: hiddenSize, outer: vocabSize }
  const tensors = productTensors(graph, embeddingData, matrix.layout, shape, 'tiles')
  graph.weights({ tensors, pieces: piecesIn('tiles', matrix, hiddenSize) })
  return graph.node('/embed', 'EmbedRows', [ids, ...blockInputs(embeddingData, matrix.layout)], {
    domain: 'dutyfree',
    attributes: blockAttributes(matrix.layout, shape),
  })
}

/** MatMulNBits pads the last block of a row and GatherBlockQuantized does not. */
function sharesHead({ config, kernels }: EmbeddingContext, { block }: BlockLayout): boolean {
  return config.tieWordEmbeddings && (kernels === 'own' || config.hiddenSize % block === 0)
}

function* withoutPadding(
  pieces: Iterable<readonly Uint8Array[]>,
  padded: number,
  rowBytes: number,
): Iterable<readonly Uint8Array[]> {
  for (const [data = new Uint8Array(0), ...parameters] of pieces) {
    if (padded === rowBytes) yield [data, ...parameters]
    else {
      const rows = data.length / padded
      const trimmed = new Uint8Array(rows * rowBytes)
      for (let row = 0; row < rows; row++) {
        trimmed.set(data.subarray(row * padded, row * padded + rowBytes), row * rowBytes)
      }
      yield [trimmed, ...parameters]
    }
  }
}

const headName = '/lm_head'
/** ONNX's number for the type, as Cast wants it. */
export const float32Code = 1

/** Hidden states → `logits`, always in float32, and the largest logit of each block. */
export function logitsOf(context: EmbeddingContext, input: string): void {
  const { graph, config } = context
  if (graph.floats === 'float32') languageHead(context, input, 'logits')
  else {
    const logits = languageHead(context, input, headName)
    graph.node('/logits', 'Cast', [logits], {
      outputs: ['logits'],
      attributes: { to: float32Code },
    })
  }
  graph.output('logits', 'float32', ['rows', 'positions', config.vocabSize])
  blockMaxima(context)
}

function languageHead(context: EmbeddingContext, input: string, outputName: string): string {
  const { graph, config, format } = context
  const wanted = graph.input(wantedTokens, 'int64', ['wanted'])
  const shared = config.tieWordEmbeddings && blockMatrix(context, format, [embeddingName])
  if (!shared || !sharesHead(context, shared.layout)) {
    const weight = config.tieWordEmbeddings ? embeddingName : 'lm_head.weight'
    return linear(context, {
      name: headName,
      input,
      weights: [weight],
      outputName,
      wanted,
    })
  }
  const isOwn = context.kernels === 'own'
  return quantizedMatMul(context, shared.layout, {
    name: isOwn ? embeddingData : headName,
    product: headName,
    input,
    outputs: [outputName],
    inner: config.hiddenSize,
    outer: config.vocabSize,
    wanted,
  })
}

/** Logits in one block of the vocabulary; 1 where the vocabulary has no blocks of one size. */
export function logitBlock(vocabSize: number): number {
  return [128, 64, 32, 16].find((size) => vocabSize % size === 0) ?? 1
}

/**
 * The largest logit of each block. The sampler finds the largest of all without a walk over a
 * vocabulary of 150,000: eight rows take JavaScript 1.8 ms and this 0.1 ms.
 */
function blockMaxima({ graph, config }: EmbeddingContext): void {
  const block = logitBlock(config.vocabSize)
  const numBlocks = config.vocabSize / block
  const shape = graph.constant('int64', [0, 0, numBlocks, block])
  const blocks = graph.node('/lm_head/blocks', 'Reshape', ['logits', shape])
  graph.node('/lm_head/block_max', 'ReduceMax', [blocks, graph.constant('int64', [-1])], {
    attributes: { keepdims: 0 },
    outputs: [graph.output('block_max', 'float32', ['rows', 'positions', numBlocks])],
  })
}
