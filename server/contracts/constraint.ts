// What an answer has to look like: the engine's grammar lets no token through that would break it.

export type OutputConstraint =
  /** Any JSON object. */
  | { readonly kind: 'json_object' }
  /** JSON text of a JSON Schema. */
  | { readonly kind: 'json_schema'; readonly schema: string }
  /** The whole answer matches it, anchored at both ends. */
  | { readonly kind: 'regex'; readonly pattern: string }
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
  /** A grammar in EBNF; its root rule is `root`. */
  | { readonly kind: 'grammar'; readonly text: string }
  /** begin {"name": …, "arguments": {…}} end, one or more times, `separator` between two of them. */
  | {
      readonly kind: 'tool_calls'
      readonly begin: string
      readonly end: string
      readonly separator: string
      /** null: as many as the model makes. */
      readonly maxCalls: number | null
      /** `parameters`: JSON text of a JSON Schema. */
      readonly tools: ReadonlyArray<{ readonly name: string; readonly parameters: string }>
    }

// What may come next in such an answer, as the sampler is told. Where it is worked out is not known
// here: it takes time, and is asked for as soon as a token is there.

export interface AllowedTokens {
  /** [vocab / 32] A bit for each token that may be the next part of the text. */
  readonly bits: Uint32Array
  readonly numTokens: number
  /** The answer may end here. */
  readonly mayEnd: boolean
}

/** One answer on its way through a grammar. */
export interface GrammarWalk {
  /** Null: not known yet. Throws ServerError where it cannot be known. */
  readonly allowed: AllowedTokens | null
  /** Resolves when `allowed` is known, or throws. */
  ready(): Promise<void>
  /** The next token of the answer's text. */
  accept(token: number): void
}

export interface AnswerGrammar {
  /** An answer begins; what may come first is known. */
  start(): GrammarWalk
}
