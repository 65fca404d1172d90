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
  | { readonly kind: 'open'; readonly vocabulary: GrammarVocabulary }
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
      readonly state: number
      readonly bits: Uint32Array
      readonly numTokens: number
      readonly mayEnd: boolean
    }

interface Allowed {
  readonly bits: Uint32Array
  readonly numTokens: number
}

interface Compiled {
  readonly matcher: Matcher
  readonly start: MatcherState
  readonly numNodes: number
  /** By their numbers, least recently used first. */
  readonly states: Map<number, MatcherState>
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
let nextState = 1

function open(opened: GrammarVocabulary): void {
  const excluded = new Set(opened.excluded)
  const { bytes, vocabSize } = opened
  trie = buildTokenTrie({
    vocabSize,
    bytesOf: (id) => (excluded.has(id) ? nothing : bytesOf(bytes, id)),
  })
  vocabulary = opened
  compiled.clear()
}

const nothing = new Uint8Array()

function compile(constraint: OutputConstraint, tokens: TokenTrie): Compiled {
  const machine = buildMachine(grammarOf(constraint), {
    isWritable: (byte) => tokens.singles[byte] === 1,
  })
  const matcher = createMatcher(machine)
  const start = matcher.start()
  const states = new Map<number, MatcherState>()
  return { matcher, start, numNodes: machine.nodes.length, states, allowed: new Map() }
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
  const bits = new Uint32Array(Math.ceil(tokens.vocabSize / 32))
  const found = { bits, numTokens: matcher.allow(state, tokens, bits) }
  allowed.set(state, found)
  if (allowed.size > mostMasks) allowed.delete(allowed.keys().next().value!)
  return found
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
  const number = nextState++
  states.set(number, state)
  if (states.size > mostStates) states.delete(states.keys().next().value!)
  const { bits, numTokens } = allowedIn(grammar, state, trie)
  return { kind: 'walked', state: number, bits, numTokens, mayEnd: state.isFinal }
}

export const grammarTask = defineTask({
  url: import.meta.url,
  run(order: GrammarOrder): GrammarAnswer {
    if (order.kind === 'open') {
      open(order.vocabulary)
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
