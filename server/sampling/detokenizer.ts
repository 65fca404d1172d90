// Tokens to text as they come: bytes are kept until they make whole code points.

import { thoughtEnd, thoughtStart } from '../contracts/thought.ts'

/** What a piece of text is made of; special tokens give no bytes. */
export interface TokenBytes {
  tokenBytes(id: number): Uint8Array
  isSpecial(id: number): boolean
}

/** Special tokens that are part of the text nonetheless: the marks of a thought. */
const keptSpecials = new Set([thoughtStart, thoughtEnd])

/** The token gives no text. `showsSpecials`: none is hidden. */
export function isHidden(tokenizer: TokenBytes, id: number, showsSpecials = false): boolean {
  if (showsSpecials || !tokenizer.isSpecial(id)) return false
  return !keptSpecials.has(Buffer.from(tokenizer.tokenBytes(id)).toString())
}

export function createDetokenizer(tokenizer: TokenBytes, showsSpecials = false) {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  return {
    /** The token gives no text. */
    isHidden(id: number): boolean {
      return isHidden(tokenizer, id, showsSpecials)
    },
    /** The whole code points that this token completes. */
    push(id: number): string {
      return this.isHidden(id) ? '' : decoder.decode(tokenizer.tokenBytes(id), { stream: true })
    },
    /** An unfinished code point shows as U+FFFD. */
    flush(): string {
      return decoder.decode()
    },
  }
}
