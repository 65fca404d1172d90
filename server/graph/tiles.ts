// Rows of a matrix side by side, as our own products read them in the order of memory: of sixteen rows
// the first words of 32 bits, then the second ones, and so on. A row ends at a whole word, and a last
// tile is filled with zeros.

/** As tile_columns in server/native/product.h, whose columns are these rows. */
const tileRows = 16

/** So many rows with those of the last tile. */
export const paddedRows = (numRows: number) => Math.ceil(numRows / tileRows) * tileRows

/** So many bytes with those of the last word. */
export const wholeWords = (numBytes: number) => Math.ceil(numBytes / 4) * 4

/** `widths`: bytes of a row of each part. */
export function* inTiles(
  pieces: Iterable<readonly Uint8Array[]>,
  widths: readonly number[],
): Iterable<readonly Uint8Array[]> {
  /** Of each part, the rows that fill no tile yet. */
  const left = widths.map(() => new Uint8Array(0))
  for (const piece of pieces) {
    yield widths.map((width, part) => {
      const rows = joined(left[part]!, piece[part]!)
      const whole = rows.length - (rows.length % (width * tileRows))
      left[part] = rows.slice(whole)
      return turned(rows.subarray(0, whole), width)
    })
  }
  if (left.every(({ length }) => length === 0)) return
  yield widths.map((width, part) => {
    const tile = new Uint8Array(width * tileRows)
    tile.set(left[part]!)
    return turned(tile, width)
  })
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second
  const both = new Uint8Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}

/** Whole tiles. */
function turned(rows: Uint8Array, width: number): Uint8Array {
  const from = wordsOf(rows, width)
  const to = new Uint32Array(from.length)
  const numWords = wholeWords(width) / 4
  for (let tile = 0; tile < from.length; tile += numWords * tileRows) {
    for (let row = 0; row < tileRows; row++) {
      const first = tile + row * numWords
      for (let i = 0; i < numWords; i++) to[tile + i * tileRows + row] = from[first + i]!
    }
  }
  return new Uint8Array(to.buffer)
}

function wordsOf(rows: Uint8Array, width: number): Uint32Array {
  const padded = wholeWords(width)
  if (padded === width && rows.byteOffset % 4 === 0) {
    return new Uint32Array(rows.buffer, rows.byteOffset, rows.length / 4)
  }
  const bytes = new Uint8Array((rows.length / width) * padded)
  for (let row = 0; row * width < rows.length; row++) {
    bytes.set(rows.subarray(row * width, (row + 1) * width), row * padded)
  }
  return new Uint32Array(bytes.buffer)
}
