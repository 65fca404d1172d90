// Keys and values of earlier tokens, in blocks, so that a prompt which begins alike need not be
// computed again. A block is found by its tokens and the block before it, back to a root that says
// which adapters at which strengths: an adapter changes every later layer's keys and values, so nothing
// is ever shared between two of them. Where adapters change within a sequence, the block that holds the
// place says so with a mark, and so do, through it, all that follow (segments.ts).
//
// Least recently used blocks go first. A block is always more recent than those that continue it, so
// the least recent one is an end, and a beginning never goes before what follows it.

import { LRUCache } from 'lru-cache'

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
  isDropped: boolean
}

/** How far a sequence's tokens are in the cache. */
export interface PrefixPosition<Saved extends SavedBlock = SavedBlock> {
  readonly root: string
  readonly last: Block<Saved> | undefined
  /** In tokens, whole blocks. */
  readonly length: number
}

export interface PrefixCacheOptions {
  readonly maxBytes: number
}

/** Positions of a block. */
export const blockTokens = 16

export function createPrefixCache<Saved extends SavedBlock>(options: PrefixCacheOptions) {
  let { maxBytes } = options
  let nextId = 0
  // `limit` moves the bound, which the library's own cannot; so room is made before a block comes.
  const blocks = new LRUCache<string, Block<Saved>>({
    maxSize: Number.MAX_SAFE_INTEGER,
    sizeCalculation: ({ saved }) => saved.bytes,
    dispose(block) {
      block.isDropped = true
      block.saved.release()
    },
  })

  function keyAfter(
    { root, last }: PrefixPosition<Saved>,
    tokens: readonly number[],
    mark: string,
  ): string {
    return `${last?.id ?? root} ${tokens.join()}${mark}`
  }

  function rootPosition(root: string): PrefixPosition<Saved> {
    return { root: `[${root}]`, last: undefined, length: 0 }
  }

  /** Makes a block and all before it the most recent ones, its beginning above all. */
  function touch(last: Block<Saved> | undefined): void {
    for (let block = last; block !== undefined; block = block.parent) blocks.get(block.key)
  }

  /** False when only `kept` and what it continues are left. */
  function makeRoom(bytes: number, kept: Block<Saved> | undefined): boolean {
    while (blocks.calculatedSize + bytes > maxBytes) {
      const [oldest] = blocks.rkeys()
      if (oldest === undefined || oldest === kept?.key) return false
      blocks.pop()
    }
    return true
  }

  return {
    get bytes() {
      return blocks.calculatedSize
    },
    /** In blocks. */
    get size() {
      return blocks.size
    },

    rootPosition,

    /**
     * The blocks that hold the beginning of these tokens, and where they end. `markOf`: the mark of
     * the block of positions [from, to).
     */
    find(
      root: string,
      tokens: readonly number[],
      markOf: (from: number, to: number) => string = () => '',
    ): { blocks: Saved[]; position: PrefixPosition<Saved> } {
      let position = rootPosition(root)
      const found: Saved[] = []
      for (let end = blockTokens; end <= tokens.length; end += blockTokens) {
        const from = end - blockTokens
        const key = keyAfter(position, tokens.slice(from, end), markOf(from, end))
        const block = blocks.peek(key)
        if (block === undefined) break
        found.push(block.saved)
        position = { ...position, last: block, length: end }
      }
      touch(position.last)
      return { blocks: found, position }
    },

    /** Keeps the block after a position, of `bytes`; returns its end, or null without room. */
    add(
      position: PrefixPosition<Saved>,
      tokens: readonly number[],
      bytes: number,
      save: () => Saved,
      mark = '',
    ): PrefixPosition<Saved> | null {
      const parent = position.last
      if (parent?.isDropped) return null
      const key = keyAfter(position, tokens, mark)
      let block = blocks.peek(key)
      if (block === undefined) {
        touch(parent)
        if (!makeRoom(bytes, parent)) return null
        block = { key, id: `${nextId++}`, saved: save(), parent, isDropped: false }
        blocks.set(key, block)
      }
      touch(block)
      return { ...position, last: block, length: position.length + blockTokens }
    },

    /** Changes how many bytes it may hold. */
    limit(newMaxBytes: number): void {
      maxBytes = newMaxBytes
      makeRoom(0, undefined)
    },

    clear(): void {
      blocks.clear()
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
