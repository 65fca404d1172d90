// Byte-pair merging of one word, on integers in flat memory: half a megabyte without a space costs
// tenths of a second. Lowest rank first, leftmost first among equals.

import { ServerError } from '../errors.ts'

/** token id of the left part, of the right part → rank of the merge, id of the result. */
interface MergeTable {
  /** Index of the pair, or −1. */
  find(left: number, right: number): number
  readonly ranks: Int32Array
  readonly results: Int32Array
}

// Short words come again and again; long ones do not.
const maxCachedLength = 32
const maxCachedWords = 20_000
// Positions fit below ranks in one exact double: 2^19 ranks · 2^32.
const positionSpan = 2 ** 32

type Merges = readonly (string | readonly [string, string])[]

export interface BytePairOptions {
  readonly vocab: ReadonlyMap<string, number>
  readonly merges: Merges
  /** A word that the vocabulary has is that token, whatever the merges make of it. */
  readonly ignoresMerges: boolean
}

/** Returns a function from a word, in GPT-2's byte characters, to its ids. */
export function createBytePairs(options: BytePairOptions): (word: string) => readonly number[] {
  const { vocab, merges, ignoresMerges } = options
  const table = createMergeTable(vocab, merges)
  const cache = new Map<string, readonly number[]>()

  return (word) => {
    const known = cache.get(word)
    if (known) return known
    const whole = ignoresMerges ? vocab.get(word) : undefined
    const ids = whole === undefined ? mergeWord(word, vocab, table) : [whole]
    if (word.length <= maxCachedLength) {
      if (cache.size >= maxCachedWords) cache.clear()
      cache.set(word, ids)
    }
    return ids
  }
}

function mergeWord(word: string, ids: ReadonlyMap<string, number>, table: MergeTable): number[] {
  // 1. One symbol a byte; bytes that the vocabulary lacks are left out, as the reference does.
  const symbols = new Int32Array(word.length)
  let count = 0
  for (let i = 0; i < word.length; i++) {
    const id = ids.get(word[i]!)
    if (id !== undefined) symbols[count++] = id
  }

  // 2. Symbols as a list: a merge keeps the left one's place and drops the right one.
  const next = Int32Array.from({ length: count }, (_, i) => i + 1)
  const previous = Int32Array.from({ length: count }, (_, i) => i - 1)
  const queue = createQueue(count)

  function offer(left: number) {
    const right = next[left]!
    if (right >= count) return
    const merge = table.find(symbols[left]!, symbols[right]!)
    if (merge >= 0) queue.push(table.ranks[merge]! * positionSpan + left)
  }

  for (let i = 0; i < count - 1; i++) offer(i)

  // 3. Best merge first. An entry whose pair has changed since is out of date.
  while (queue.size > 0) {
    const entry = queue.pop()
    const left = entry % positionSpan
    const right = next[left]!
    if (symbols[left] === -1 || right >= count) continue
    const merge = table.find(symbols[left]!, symbols[right]!)
    if (merge < 0 || table.ranks[merge] !== Math.floor(entry / positionSpan)) continue
    symbols[left] = table.results[merge]!
    symbols[right] = -1
    const after = next[right]!
    next[left] = after
    if (after < count) previous[after] = left
    if (previous[left]! >= 0) offer(previous[left]!)
    offer(left)
  }

  const result: number[] = []
  for (let i = 0; i < count; i = next[i]!) result.push(symbols[i]!)
  return result
}

/** Open addressing over the pairs of ids: a Map keyed by pairs would make an object a look-up. */
function createMergeTable(ids: ReadonlyMap<string, number>, merges: Merges): MergeTable {
  const size = 2 ** Math.ceil(Math.log2(merges.length * 2 + 2))
  const slots = new Int32Array(size).fill(-1)
  const lefts = new Int32Array(merges.length)
  const rights = new Int32Array(merges.length)
  const ranks = new Int32Array(merges.length)
  const results = new Int32Array(merges.length)

  function locate(left: number, right: number): number {
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)
    hash ^= hash >>> 15
    for (let slot = hash & (size - 1); ; slot = (slot + 1) & (size - 1)) {
      const pair = slots[slot]!
      if (pair < 0 || (lefts[pair] === left && rights[pair] === right)) return slot
    }
  }

  merges.forEach((merge, rank) => {
    if (typeof merge === 'string' && merge.startsWith('#version')) return
    const parts: unknown = typeof merge === 'string' ? merge.split(' ') : merge
    const pair: readonly unknown[] = Array.isArray(parts) ? parts : []
    const texts = pair.filter((text) => typeof text === 'string')
    const [left, right, result] = [texts[0]!, texts[1]!, texts.join('')].map((text) =>
      ids.get(text),
    )
    const isPair = pair.length === 2 && texts.length === 2
    if (!isPair || left === undefined || right === undefined || result === undefined) {
      throw new ServerError(
        'invalid_checkpoint',
        `tokenizer.json: model.merges[${rank}] must be two tokens of the vocabulary that make a ` +
          `third; got ${JSON.stringify(merge)?.slice(0, 120)}.`,
      )
    }
    lefts[rank] = left
    rights[rank] = right
    ranks[rank] = rank
    results[rank] = result
    slots[locate(left, right)] = rank
  })
  return { find: (left, right) => slots[locate(left, right)]!, ranks, results }
}

/** A binary heap of numbers, least first. */
function createQueue(capacity: number) {
  let heap = new Float64Array(Math.max(16, capacity))
  let size = 0
  return {
    get size() {
      return size
    },
    push(value: number): void {
      if (size === heap.length) {
        const larger = new Float64Array(size * 2)
        larger.set(heap)
        heap = larger
      }
      let at = size++
      while (at > 0) {
        const parent = (at - 1) >> 1
        if (heap[parent]! <= value) break
        heap[at] = heap[parent]!
        at = parent
      }
      heap[at] = value
    },
    pop(): number {
      const least = heap[0]!
      const value = heap[--size]!
      let at = 0
      for (;;) {
        let child = 2 * at + 1
        if (child >= size) break
        if (child + 1 < size && heap[child + 1]! < heap[child]!) child++
        if (heap[child]! >= value) break
        heap[at] = heap[child]!
        at = child
      }
      heap[at] = value
      return least
    },
  }
}
