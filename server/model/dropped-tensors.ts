// Tensors of a checkpoint that the graph does not read, where they are not what it reads instead: a head
// beside tied embeddings, frequencies beside those of config.json.

import type { ModelConfig, TensorSource } from '../contracts/checkpoint.ts'

interface DroppedOf {
  readonly config: Pick<
    ModelConfig,
    'tieWordEmbeddings' | 'numLayers' | 'headDim' | 'ropeTheta' | 'ropeScaling'
  >
  readonly tensors: TensorSource
}

const head = 'lm_head.weight'
const embedding = 'model.embed_tokens.weight'
const rowsAtOnce = 1024
/** Frequencies are stored in half precision, too. */
const tolerance = 0.01

/** Reads both of what differs up to the first difference, and all of what is equal. */
export function droppedTensors(
  { config, tensors }: DroppedOf,
  onProgress: () => void = () => {},
): readonly string[] {
  const notices: string[] = []
  const hasHead = config.tieWordEmbeddings && tensors.has(head)
  if (hasHead && !isSame(tensors, head, embedding, onProgress)) {
    notices.push(
      `The checkpoint's ${head} differs from ${embedding}, and config.json says ` +
        'tie_word_embeddings: it is not used. Set that to false if the head is the trained one.',
    )
  }
  // With scaling, files hold the frequencies from before or after it.
  const names = config.ropeScaling === null ? frequencyNames(config.numLayers) : []
  const odd = names.find((name) => tensors.has(name) && !hasFrequencies(tensors.read(name), config))
  if (odd !== undefined) {
    notices.push(`The checkpoint's ${odd} differs from config.json's rope settings: not used.`)
  }
  return notices
}

function isSame(tensors: TensorSource, x: string, y: string, onProgress: () => void): boolean {
  const shape = tensors.shape(x)
  if (shape.join() !== tensors.shape(y).join()) return false
  const rows = shape[0] ?? 0
  for (let first = 0; first < rows; first += rowsAtOnce) {
    onProgress()
    const count = Math.min(rowsAtOnce, rows - first)
    const [a, b] = [tensors.readRows(x, first, count), tensors.readRows(y, first, count)]
    if (Buffer.compare(bytesOf(a), bytesOf(b)) !== 0) return false
  }
  return true
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

function frequencyNames(numLayers: number): string[] {
  const name = 'rotary_emb.inv_freq'
  const ofLayers = Array.from(
    { length: numLayers },
    (_, layer) => `model.layers.${layer}.self_attn.${name}`,
  )
  return [`model.${name}`, ...ofLayers]
}

function hasFrequencies(
  values: Float32Array,
  { headDim, ropeTheta }: DroppedOf['config'],
): boolean {
  if (values.length !== headDim / 2) return false
  return values.every((value, i) => {
    const expected = ropeTheta ** ((-2 * i) / headDim)
    return Math.abs(value - expected) <= tolerance * expected
  })
}
