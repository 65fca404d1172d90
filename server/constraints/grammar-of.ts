// What a request asks of its answer, as a grammar.

import type { OutputConstraint } from '../contracts/constraint.ts'
import { ofWords } from '../grammar/automaton.ts'
import { parseEbnf } from '../grammar/ebnf.ts'
import { type Expression, type Grammar, GrammarError } from '../grammar/expression.ts'
import { parseRegex } from '../grammar/regex.ts'
import { anyObject, parseSchema } from './schema.ts'
import { toolCalls } from './tool-calls.ts'

const mostChoices = 50_000
const mostChoiceChars = 1_000_000
const noRules: ReadonlyMap<string, Expression> = new Map()

/** Throws GrammarError. */
export function grammarOf(constraint: OutputConstraint): Grammar {
  switch (constraint.kind) {
    case 'json_object':
      return anyObject()
    case 'json_schema':
      return parseSchema(constraint.schema)
    case 'regex':
      return { root: parseRegex(constraint.pattern, { isFound: false }), rules: noRules }
    case 'choice':
      return { root: choices(constraint.choices), rules: noRules }
    case 'grammar':
      return parseEbnf(constraint.text)
    case 'tool_calls':
      return toolCalls(constraint)
  }
}

function choices(texts: readonly string[]): Expression {
  const numChars = texts.reduce((sum, text) => sum + text.length, 0)
  if (texts.length > mostChoices || numChars > mostChoiceChars) {
    throw new GrammarError(
      `there may be at most ${mostChoices} choices of ${mostChoiceChars} characters together, not ` +
        `${texts.length} of ${numChars}`,
    )
  }
  return { kind: 'automaton', automaton: ofWords(texts), spelling: 'plain' }
}
