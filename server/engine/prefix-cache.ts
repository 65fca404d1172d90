// Keys and values of prompts that were computed before, so that a prompt which begins alike need not
// be computed again. Kept per (adapter digests, strengths): an adapter changes every later layer's
// keys and values, so nothing is ever shared between two of them. Least recently used goes first.

/** Memory that holds the first positions of a cache row. */
export interface SavedRow {
  readonly bytes: number
  release(): void
}

interface Entry<Saved extends SavedRow> {
  readonly key: string
  readonly tokens: readonly number[]
  readonly saved: Saved
}

export interface PrefixMatch<Saved extends SavedRow> {
  /** Positions that can be taken over. */
  readonly length: number
  readonly saved: Saved
}

/** A look-up compares with each entry. */
const maxEntries = 256

export type PrefixCache<Saved extends SavedRow> = ReturnType<typeof createPrefixCache<Saved>>

export function createPrefixCache<Saved extends SavedRow>({ maxBytes }: { maxBytes: number }) {
  // Least recently used first.
  let entries: Entry<Saved>[] = []
  let bytes = 0

  function drop(entry: Entry<Saved>): void {
    entries = entries.filter((other) => other !== entry)
    bytes -= entry.saved.bytes
    entry.saved.release()
  }

  function touch(entry: Entry<Saved>): void {
    entries = [...entries.filter((other) => other !== entry), entry]
  }

  return {
    get bytes() {
      return bytes
    },
    get size() {
      return entries.length
    },

    /** The longest common beginning among the entries of this key. */
    find(key: string, tokens: readonly number[]): PrefixMatch<Saved> | null {
      let best: { entry: Entry<Saved>; length: number } | undefined
      for (const entry of entries) {
        if (entry.key !== key) continue
        const length = commonLength(entry.tokens, tokens)
        if (length > (best?.length ?? 0)) best = { entry, length }
      }
      if (best === undefined) return null
      touch(best.entry)
      return { length: best.length, saved: best.entry.saved }
    },

    /** Keeps a row unless an entry covers it already; `save` is called only when it is kept. */
    add(key: string, tokens: readonly number[], size: number, save: () => Saved): void {
      if (size > maxBytes) return
      const covering = entries.find(
        (entry) => entry.key === key && commonLength(entry.tokens, tokens) === tokens.length,
      )
      if (covering !== undefined) {
        touch(covering)
        return
      }
      // What the new entry covers is of no more use.
      for (const entry of entries) {
        const isCovered = commonLength(entry.tokens, tokens) === entry.tokens.length
        if (entry.key === key && isCovered) drop(entry)
      }
      while (
        (bytes + size > maxBytes || entries.length >= maxEntries) &&
        entries[0] !== undefined
      ) {
        drop(entries[0])
      }
      const saved = save()
      entries.push({ key, tokens: [...tokens], saved })
      bytes += saved.bytes
    },

    clear(): void {
      for (const entry of entries) entry.saved.release()
      entries = []
      bytes = 0
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
