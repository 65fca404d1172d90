// The part of a vocabulary that can be sampled at all. The blocks whose largest logit lies so far below
// the top that all of them together weigh under 1e-7 of it are left out; with what real models say, a
// few thousand of 150,000 logits are left, and a token takes hundredths of a millisecond to choose.

/** Share of the top's weight that everything left out may have. */
const negligible = 1e-7
/** With more than this share left, packing costs more than it saves. */
const worthPacking = 0.5

export interface UsedLogits {
  /** The blocks that are left, in their order. */
  readonly logits: Float32Array
  /** The token of an index of them. */
  idOf(index: number): number
}

function identity(index: number): number {
  return index
}

export function packLogitBlocks(
  logits: Float32Array,
  blockMax: Float32Array | null,
  { top, temperature }: { readonly top: number; readonly temperature: number },
): UsedLogits {
  if (blockMax === null || blockMax.length === 0) return { logits, idOf: identity }
  const size = logits.length / blockMax.length
  const floor = top - temperature * Math.log(logits.length / negligible)
  const blocks: number[] = []
  for (let block = 0; block < blockMax.length; block++) {
    if (blockMax[block]! >= floor) blocks.push(block)
  }
  if (blocks.length > worthPacking * blockMax.length) return { logits, idOf: identity }
  const packed = new Float32Array(blocks.length * size)
  for (const [i, block] of blocks.entries()) {
    packed.set(logits.subarray(block * size, (block + 1) * size), i * size)
  }
  return {
    logits: packed,
    idOf: (index) => blocks[Math.floor(index / size)]! * size + (index % size),
  }
}
