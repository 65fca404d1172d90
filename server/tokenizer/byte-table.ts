// Bytes of tokens, and GPT-2's way of writing a byte as a character.

import { ServerError } from '../errors.ts'

// GPT-2's table: a byte that prints is its own character, the others are U+0100 and following.
const byteOfChar: ReadonlyMap<string, number> = (() => {
  const table = new Map<string, number>()
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const prints = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
    table.set(String.fromCharCode(prints ? byte : next++), byte)
  }
  return table
})()

/** The character of each byte. */
export const byteCharacters: readonly string[] = [...byteOfChar]
  .sort(([, a], [, b]) => a - b)
  .map(([char]) => char)

/** UTF-8 of the text, a character a byte. */
export function toByteCharacters(text: string): string {
  if (/^[!-~]*$/.test(text)) return text
  let out = ''
  for (const byte of Buffer.from(text, 'utf8')) out += byteCharacters[byte]
  return out
}

const nothing = new Uint8Array(0)

/** Bytes of every token, one after the other in one block of memory. */
export interface ByteTable {
  /** [ids + 1] Where each token's bytes begin, and where the last one's end. */
  readonly starts: Uint32Array
  readonly block: Uint8Array
}

/** Empty for ids that have none. */
export function bytesOf({ starts, block }: ByteTable, id: number): Uint8Array {
  return id >= 0 && id < starts.length - 1 ? block.subarray(starts[id]!, starts[id + 1]!) : nothing
}

export function createByteTable(
  vocab: ReadonlyMap<string, number>,
  added: readonly { readonly id: number; readonly content: string }[],
): ByteTable {
  const texts: (Uint8Array | undefined)[] = []
  for (const [token, id] of vocab) {
    if (!Number.isSafeInteger(id) || id < 0 || id >= 1 << 24) {
      throw new ServerError(
        'invalid_checkpoint',
        `tokenizer.json: model.vocab has an id that is no whole number below 2^24.`,
      )
    }
    texts[id] = toBytes(token)
  }
  for (const { id, content } of added) texts[id] = Buffer.from(content, 'utf8')

  const size = texts.length
  const starts = new Uint32Array(size + 1)
  for (let id = 0; id < size; id++) starts[id + 1] = starts[id]! + (texts[id]?.length ?? 0)
  const block = new Uint8Array(starts[size]!)
  for (let id = 0; id < size; id++) if (texts[id]) block.set(texts[id]!, starts[id]!)
  return { starts, block }
}

/** A vocabulary entry as bytes; one that is not written in GPT-2's table stands for its UTF-8. */
function toBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfChar.get(token[i]!)
    if (byte === undefined) return Buffer.from(token, 'utf8')
    bytes[i] = byte
  }
  return bytes
}
