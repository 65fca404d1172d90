// The tokens that may be part of constrained text, as a tree by their bytes, in flat arrays: what a
// rejected byte begins is skipped at once. Special tokens, and tokens without bytes, are not in it.

export interface TokenTrie {
  /** Of each node, depth first: the byte that leads to it. */
  readonly bytes: Uint8Array
  /** How many bytes lead to it. */
  readonly depths: Uint16Array
  /** The token that it spells; -1: none. */
  readonly tokens: Int32Array
  /** Behind all that it begins. */
  readonly skips: Int32Array
  /** Another token of the same bytes; -1: none. */
  readonly twins: Int32Array
  readonly vocabSize: number
  /** 1 for each byte that is a token by itself. */
  readonly singles: Uint8Array
}

const longest = 65_535

export interface TrieTokens {
  readonly vocabSize: number
  /** Empty: it is no part of any text. */
  readonly bytesOf: (id: number) => Uint8Array
}

export function buildTokenTrie({ vocabSize, bytesOf }: TrieTokens): TokenTrie {
  const entries: { id: number; bytes: Uint8Array }[] = []
  for (let id = 0; id < vocabSize; id++) {
    const bytes = bytesOf(id)
    if (bytes.length > 0 && bytes.length <= longest) entries.push({ id, bytes })
  }
  entries.sort((a, b) => Buffer.compare(a.bytes, b.bytes) || a.id - b.id)
  const mostNodes = entries.reduce((sum, { bytes }) => sum + bytes.length, 0)
  const bytes = new Uint8Array(mostNodes)
  const depths = new Uint16Array(mostNodes)
  const tokens = new Int32Array(mostNodes).fill(-1)
  const skips = new Int32Array(mostNodes)
  const twins = new Int32Array(vocabSize).fill(-1)
  const singles = new Uint8Array(256)
  const path: number[] = []
  let numNodes = 0
  let before: Uint8Array = new Uint8Array()
  for (const { id, bytes: own } of entries) {
    let shared = 0
    while (shared < own.length && shared < before.length && own[shared] === before[shared]) shared++
    while (path.length > shared) skips[path.pop()!] = numNodes
    for (let depth = shared; depth < own.length; depth++) {
      bytes[numNodes] = own[depth]!
      depths[numNodes] = depth + 1
      path.push(numNodes++)
    }
    const node = path[own.length - 1]!
    twins[id] = tokens[node]!
    tokens[node] = id
    if (own.length === 1) singles[own[0]!] = 1
    before = own
  }
  while (path.length > 0) skips[path.pop()!] = numNodes
  return {
    bytes: bytes.slice(0, numNodes),
    depths: depths.slice(0, numNodes),
    tokens: tokens.slice(0, numNodes),
    skips: skips.slice(0, numNodes),
    twins,
    vocabSize,
    singles,
  }
}
