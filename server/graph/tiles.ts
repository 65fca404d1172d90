// Rows of a matrix side by side, as our own products read them in the order of memory: of sixteen rows
// the first words of 32 bits, then the second ones, and so on. A last tile is filled with zeros.

/** As tile_columns in server/native/product.h, whose columns are these rows. */
export const tileRows = 16

/** So many rows with those of the last tile. */
export const paddedRows = (numRows: number) => Math.ceil(numRows / tileRows) * tileRows

/** `widths`: bytes of a row of each part, whole words; null: that part stays as it is. */
export function* inTiles(
  pieces: Iterable<readonly Uint8Array[]>,
  widths: ReadonlyArray<number | null>,
): Iterable<readonly Uint8Array[]> {
  /** Of each part, the rows that fill no tile yet. */
  const left = widths.map(() => new Uint8Array(0))
  for (const piece of pieces) {
    yield piece.map((bytes, part) => {
      const width = widths[part] ?? null
      if (width === null) return bytes
      const all = joined(left[part]!, bytes)
      const whole = all.length - (all.length % (width * tileRows))
      left[part] = all.slice(whole)
      return turned(all.subarray(0, whole), width)
    })
  }
  if (left.every(({ length }) => length === 0)) return
  yield left.map((rows, part) => {
    const tile = new Uint8Array((widths[part] ?? 0) * tileRows)
    tile.set(rows)
    return turned(tile, widths[part] ?? 0)
  })
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second
  const both = new Uint8Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}

function turned(rows: Uint8Array, width: number): Uint8Array {
  const from = wordsOf(rows)
  const to = new Uint32Array(from.length)
  const numWords = width / 4
  for (let tile = 0; tile < from.length; tile += numWords * tileRows) {
    for (let row = 0; row < tileRows; row++) {
      const first = tile + row * numWords
      for (let i = 0; i < numWords; i++) to[tile + i * tileRows + row] = from[first + i]!
    }
  }
  return new Uint8Array(to.buffer)
}

function wordsOf(bytes: Uint8Array): Uint32Array {
  const { buffer, byteOffset, length } = byteOffsetIsWhole(bytes) ? bytes : bytes.slice()
  return new Uint32Array(buffer, byteOffset, length / 4)
}

const byteOffsetIsWhole = ({ byteOffset }: Uint8Array) => byteOffset % 4 === 0
