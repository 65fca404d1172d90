// The task of the grammar thread: which tokens may come next in each constrained answer. It keeps
// compiled grammars by their digests, and their states by numbers; what was forgotten is asked for again.

import { LRUCache } from 'lru-cache'
import { grammarOf } from '../constraints/grammar-of.ts'
import type { OutputConstraint } from '../contracts/constraint.ts'
import { ServerError } from '../errors.ts'
import { GrammarError } from '../grammar/expression.ts'
import { buildMachine } from '../grammar/machine.ts'
import { createMatcher, type Matcher, type MatcherState } from '../grammar/matcher.ts'
import { buildTokenTrie, type TokenTrie } from '../grammar/token-trie.ts'
import { defineTask } from '../threads/task.ts'
import { type ByteTable, bytesOf } from '../tokenizer/byte-table.ts'

/** The tokens that constrained text may be made of. */
export interface GrammarVocabulary {
  readonly bytes: ByteTable
  /** Special tokens, end tokens and the marks of a thought. */
  readonly excluded: readonly number[]
  /** Rows of the logits. */
  readonly vocabSize: number
}

export type GrammarOrder =
  | {
      readonly kind: 'open'
      readonly vocabulary: GrammarVocabulary
      /** The first number of a state: one that no thread before this has given. */
      readonly firstState: number
    }
  | {
      readonly kind: 'walk'
      readonly digest: string
      /** Null: it was sent before. */
      readonly constraint: OutputConstraint | null
      /** A state's number; 0: the beginning. */
      readonly from: number
      readonly tokens: readonly number[]
    }

export type GrammarAnswer =
  | { readonly kind: 'opened' }
  /** The grammar or the state is not there any more: send the grammar, and all tokens. */
  | { readonly kind: 'lost' }
  | {
      readonly kind: 'walked'
      /** The same state of the same grammar has the same number, as long as it is kept. */
      readonly state: number
      /** [vocab / 32] */
      readonly bits: Uint32Array
      /** [vocab / 32] The tokens that lead back to this state. */
      readonly loops: Uint32Array
      readonly numTokens: number
      readonly mayEnd: boolean
    }

interface Allowed {
  readonly bits: Uint32Array
  readonly loops: Uint32Array
  readonly numTokens: number
}

interface Compiled {
  readonly matcher: Matcher
  readonly start: MatcherState
  readonly numNodes: number
  /** By their numbers, least recently used first. */
  readonly states: Map<number, MatcherState>
  readonly numbers: WeakMap<MatcherState, number>
  readonly allowed: Map<MatcherState, Allowed>
}

/** Of compiled grammars together, as far as they can be known. */
const mostBytes = 256 << 20
const bytesPerNode = 150
/** States with their tables, and the masks of some. */
const usualBytes = 6 << 20
const mostStates = 2000
const mostMasks = 64

const compiled = new LRUCache<string, Compiled>({
  maxSize: mostBytes,
  sizeCalculation: ({ numNodes }) => usualBytes + bytesPerNode * numNodes,
})
let trie: TokenTrie | undefined
let vocabulary: GrammarVocabulary | undefined
let nextState = 0

function open(opened: GrammarVocabulary, firstState: number): void {
  const excluded = new Set(opened.excluded)
  const { bytes, vocabSize } = opened
  trie = buildTokenTrie({
    vocabSize,
    bytesOf: (id) => (excluded.has(id) ? nothing : bytesOf(bytes, id)),
  })
  vocabulary = opened
  nextState = firstState
  compiled.clear()
}

const nothing = new Uint8Array()

function compile(constraint: OutputConstraint, tokens: TokenTrie): Compiled {
  const machine = buildMachine(grammarOf(constraint), {
    isWritable: (byte) => tokens.singles[byte] === 1,
  })
  const matcher = createMatcher(machine)
  const start = matcher.start()
  const kept = { states: new Map(), numbers: new WeakMap(), allowed: new Map() }
  return { matcher, start, numNodes: machine.nodes.length, ...kept }
}

function allowedIn(
  { matcher, allowed }: Compiled,
  state: MatcherState,
  tokens: TokenTrie,
): Allowed {
  const known = allowed.get(state)
  if (known !== undefined) {
    allowed.delete(state)
    allowed.set(state, known)
    return known
  }
  const [bits, loops] = [newBits(tokens), newBits(tokens)]
  const found = { bits, loops, numTokens: matcher.allow(state, tokens, bits, loops) }
  allowed.set(state, found)
  if (allowed.size > mostMasks) allowed.delete(allowed.keys().next().value!)
  return found
}

function newBits({ vocabSize }: TokenTrie): Uint32Array {
  return new Uint32Array(Math.ceil(vocabSize / 32))
}

/** The state's number, with which it is asked for again. */
function keep({ states, numbers }: Compiled, state: MatcherState): number {
  const known = numbers.get(state)
  const number = known !== undefined && states.delete(known) ? known : nextState++
  numbers.set(state, number)
  states.set(number, state)
  if (states.size > mostStates) states.delete(states.keys().next().value!)
  return number
}

function walk(order: Extract<GrammarOrder, { kind: 'walk' }>): GrammarAnswer {
  if (trie === undefined || vocabulary === undefined) return { kind: 'lost' }
  let grammar = compiled.get(order.digest)
  if (grammar === undefined) {
    if (order.constraint === null) return { kind: 'lost' }
    grammar = compile(order.constraint, trie)
    compiled.set(order.digest, grammar)
  }
  const { matcher, start, states } = grammar
  let state: MatcherState | null | undefined = order.from === 0 ? start : states.get(order.from)
  if (state === undefined) return { kind: 'lost' }
  if (states.delete(order.from)) states.set(order.from, state)
  for (const token of order.tokens) {
    state = matcher.read(state, bytesOf(vocabulary.bytes, token))
    if (state === null) throw new Error('a token came that the grammar does not let through')
  }
  const number = keep(grammar, state)
  const allowed = allowedIn(grammar, state, trie)
  return { kind: 'walked', state: number, ...allowed, mayEnd: state.isFinal }
}

export const grammarTask = defineTask({
  url: import.meta.url,
  run(order: GrammarOrder): GrammarAnswer {
    if (order.kind === 'open') {
      open(order.vocabulary, order.firstState)
      return { kind: 'opened' }
    }
    try {
      return walk(order)
    } catch (error) {
      if (!(error instanceof GrammarError)) throw error
      throw new ServerError('invalid_value', `The grammar of the answer: ${error.message}.`)
    }
  },
})
