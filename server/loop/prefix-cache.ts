// Keys and values of tokens that were computed before, in blocks, so that a prompt which begins alike
// need not be computed again. A block is found by its tokens and the block before it, back to a root
// that says which adapters at which strengths: an adapter changes every later layer's keys and values,
// so nothing is ever shared between two of them. The least recently used block that no other continues
// goes first.

/** Memory that holds one block of a cache row. */
export interface SavedBlock {
  readonly bytes: number
  release(): void
}

interface Block<Saved extends SavedBlock> {
  readonly key: string
  readonly id: string
  readonly saved: Saved
  readonly parent: Block<Saved> | undefined
  numContinued: number
  isDropped: boolean
}

/** How far a sequence's tokens are in the cache. */
export interface PrefixPosition<Saved extends SavedBlock = SavedBlock> {
  readonly root: string
  readonly last: Block<Saved> | undefined
  /** In tokens, whole blocks. */
  readonly length: number
}

/** Positions of a block. */
export const blockTokens = 16

export type PrefixCache<Saved extends SavedBlock> = ReturnType<typeof createPrefixCache<Saved>>

export function createPrefixCache<Saved extends SavedBlock>(options: { maxBytes: number }) {
  let { maxBytes } = options
  let bytes = 0
  let nextId = 0
  // Least recently used first.
  const blocks = new Map<string, Block<Saved>>()

  const keyAfter = ({ root, last }: PrefixPosition<Saved>, tokens: readonly number[]) =>
    `${last?.id ?? root} ${tokens.join()}`

  const rootPosition = (root: string): PrefixPosition<Saved> => {
    return { root: `[${root}]`, last: undefined, length: 0 }
  }

  function touch(block: Block<Saved>): void {
    blocks.delete(block.key)
    blocks.set(block.key, block)
  }

  function dropOne(kept: Block<Saved> | undefined): boolean {
    for (const block of blocks.values()) {
      if (block.numContinued > 0 || block === kept) continue
      blocks.delete(block.key)
      if (block.parent !== undefined) block.parent.numContinued--
      block.isDropped = true
      bytes -= block.saved.bytes
      block.saved.release()
      return true
    }
    return false
  }

  return {
    get bytes() {
      return bytes
    },
    /** In blocks. */
    get size() {
      return blocks.size
    },

    rootPosition,

    /** The blocks that hold the beginning of these tokens, and where they end. */
    find(
      root: string,
      tokens: readonly number[],
    ): { blocks: Saved[]; place: PrefixPosition<Saved> } {
      let place = rootPosition(root)
      const found: Block<Saved>[] = []
      for (let end = blockTokens; end <= tokens.length; end += blockTokens) {
        const block = blocks.get(keyAfter(place, tokens.slice(end - blockTokens, end)))
        if (block === undefined) break
        found.push(block)
        place = { ...place, last: block, length: end }
      }
      // The last first: a beginning is used whenever what follows it is.
      for (const block of found.toReversed()) touch(block)
      return { blocks: found.map(({ saved }) => saved), place }
    },

    /** Keeps the block that follows a place; returns the place after it, or null without room. */
    add(
      place: PrefixPosition<Saved>,
      tokens: readonly number[],
      size: number,
      save: () => Saved,
    ): PrefixPosition<Saved> | null {
      const parent = place.last
      if (parent?.isDropped) return null
      const key = keyAfter(place, tokens)
      let block = blocks.get(key)
      if (block !== undefined) touch(block)
      else {
        while (bytes + size > maxBytes) if (!dropOne(parent)) return null
        block = { key, id: `${nextId++}`, saved: save(), parent, numContinued: 0, isDropped: false }
        if (parent !== undefined) parent.numContinued++
        blocks.set(key, block)
        bytes += block.saved.bytes
      }
      return { ...place, last: block, length: place.length + blockTokens }
    },

    /** Changes how many bytes it may hold. */
    limit(newMaxBytes: number): void {
      maxBytes = newMaxBytes
      while (bytes > maxBytes && dropOne(undefined));
    },

    clear(): void {
      while (dropOne(undefined));
    },
  }
}

/** How many first elements are equal. */
export function commonLength(x: readonly number[], y: readonly number[]): number {
  const end = Math.min(x.length, y.length)
  let length = 0
  while (length < end && x[length] === y[length]) length++
  return length
}
