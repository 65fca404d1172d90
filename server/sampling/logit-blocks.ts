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

interface Weighing {
  readonly top: number
  readonly temperature: number
}

/** Below it, `count` logits together weigh nothing. */
function leastWorth(count: number, { top, temperature }: Weighing): number {
  return top - temperature * Math.log(count / negligible)
}

/** Without the logits that together weigh nothing. */
export function dropNegligible({ logits, idOf }: UsedLogits, weighing: Weighing): UsedLogits {
  const floor = leastWorth(logits.length, weighing)
  const places = new Int32Array(logits.length)
  let size = 0
  for (let i = 0; i < logits.length; i++) if (logits[i]! >= floor) places[size++] = i
  if (size > worthPacking * logits.length) return { logits, idOf }
  const kept = new Float32Array(size)
  for (let i = 0; i < size; i++) kept[i] = logits[places[i]!]!
  return { logits: kept, idOf: (index) => idOf(places[index]!) }
}

export function packLogitBlocks(
  logits: Float32Array,
  blockMax: Float32Array | null,
  { top, temperature }: Weighing,
): UsedLogits {
  if (blockMax === null || blockMax.length === 0) return { logits, idOf: identity }
  const size = logits.length / blockMax.length
  const floor = leastWorth(logits.length, { top, temperature })
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
