// A grammar for tests of the loop: over the bytes of the scripted model, and as late as a test wants.

import { grammarOf } from '../../server/constraints/grammar-of.ts'
import type {
  AllowedTokens,
  AnswerGrammar,
  OutputConstraint,
} from '../../server/contracts/constraint.ts'
import { buildMachine } from '../../server/grammar/machine.ts'
import { createMatcher, type MatcherState } from '../../server/grammar/matcher.ts'
import { buildTokenTrie } from '../../server/grammar/token-trie.ts'
import { vocabSize } from './scripted-model.ts'

const trie = buildTokenTrie({
  vocabSize,
  bytesOf: (id) => (id < 256 ? Uint8Array.of(id) : new Uint8Array()),
})

export interface TestGrammarOptions {
  /** Before an answer is known; at once unless said. May throw. */
  readonly wait?: () => Promise<void>
}

export function testGrammar(
  constraint: OutputConstraint,
  { wait }: TestGrammarOptions = {},
): AnswerGrammar {
  const matcher = createMatcher(buildMachine(grammarOf(constraint), { isWritable: () => true }))

  function allowedIn(state: MatcherState): AllowedTokens {
    const bits = new Uint32Array(Math.ceil(vocabSize / 32))
    const numTokens = matcher.allow(state, trie, bits)
    return { bits, numTokens, mayEnd: state.isFinal }
  }

  return {
    start() {
      let state = matcher.start()
      let allowed: AllowedTokens | null = allowedIn(state)
      let failure: unknown = null
      let pending = Promise.resolve()
      return {
        get allowed() {
          if (failure !== null) throw failure
          return allowed
        },
        ready: () => pending,
        accept(token) {
          const next = matcher.read(state, Uint8Array.of(token))
          if (next === null) throw new Error(`the token ${token} is not let through`)
          state = next
          if (wait === undefined) {
            allowed = allowedIn(state)
            return
          }
          allowed = null
          pending = wait().then(
            () => {
              allowed = allowedIn(state)
            },
            (error) => {
              failure = error
            },
          )
        },
      }
    },
  }
}
