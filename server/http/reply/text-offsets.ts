// Where tokens begin in a text, in characters as OpenAI and Python count them: code points. A token
// may be a part of a character: it then begins where its character does.

type Bytes = readonly number[] | Uint8Array

interface OffsetToken {
  readonly bytes: Bytes
  /** Its text is no part of the answer's. */
  readonly hidden?: true
}

export interface TextOffsets {
  /** Where each token of the prompt begins in its text. A frame of special tokens is not in it. */
  ofPrompt(tokens: readonly OffsetToken[], text: string): number[]
  /** Where the next tokens begin. */
  next(tokens: readonly OffsetToken[]): number[]
  /** Of the text so far. */
  readonly numChars: number
}

export function createTextOffsets(begin = 0): TextOffsets {
  let decoder = createDecoder()
  let numChars = begin
  /** The last bytes that came, and whether the last of them are half a character. */
  let tail: readonly number[] = []
  let isHalf = false

  function push(bytes: Bytes): number {
    if (!isHalf && bytes.every((byte) => byte < 0x80)) {
      numChars += bytes.length
      return numChars - bytes.length
    }
    const begin = decoder.decode(Uint8Array.from(bytes.slice(0, 1)), { stream: true })
    const continues = ((bytes[0] ?? 0) & 0xc0) === 0x80 && numCodePoints(begin) <= 1
    const start = isHalf && !continues ? numChars + 1 : numChars
    const rest = decoder.decode(Uint8Array.from(bytes.slice(1)), { stream: true })
    numChars += numCodePoints(begin) + numCodePoints(rest)
    tail = [...tail, ...bytes].slice(-4)
    isHalf = endsHalfway(tail)
    return start
  }

  /** What follows begins anew: half a character shows as U+FFFD. */
  function flush(): void {
    if (isHalf) numChars++
    isHalf = false
    tail = []
    decoder = createDecoder()
  }

  return {
    ofPrompt(tokens, text) {
      const shown = Buffer.from(text)
      const all = Buffer.concat(tokens.map(({ bytes }) => Uint8Array.from(bytes)))
      const found = all.indexOf(shown)
      const [begin, end] = found < 0 ? [0, all.length] : [found, found + shown.length]
      let at = 0
      const starts = tokens.map(({ bytes }) => {
        const isShown = at >= begin && at < end
        at += bytes.length
        return isShown ? push(bytes) : numChars
      })
      flush()
      return starts
    },
    next: (tokens) => tokens.map(({ bytes, hidden }) => (hidden ? numChars : push(bytes))),
    get numChars() {
      return numChars
    },
  }
}

function createDecoder() {
  return new TextDecoder('utf-8', { ignoreBOM: true })
}

/** A decoder that waits for more says less than one that does not. */
function endsHalfway(bytes: readonly number[]): boolean {
  const all = Uint8Array.from(bytes)
  return createDecoder().decode(all) !== createDecoder().decode(all, { stream: true })
}

function numCodePoints(text: string): number {
  let count = 0
  for (const _ of text) count++
  return count
}
