// Calls of tools: each is an object of a tool's name and its arguments, between two marks.

import type { OutputConstraint } from '../contracts/constraint.ts'
import {
  choice,
  type Expression,
  type Grammar,
  repeat,
  rule,
  sequence,
  spelledAsJson,
  text,
} from '../grammar/expression.ts'
import { parseSchema, space } from './schema.ts'
import { within } from './strings.ts'

type ToolCalls = Extract<OutputConstraint, { kind: 'tool_calls' }>

/** Throws GrammarError, with the tool's name. */
export function toolCalls({ begin, end, separator, maxCalls, tools }: ToolCalls): Grammar {
  const rules = new Map<string, Expression>()
  const objects = tools.map(({ name, parameters }, i) => {
    const { root, rules: own } = within(`tool ${JSON.stringify(name)}`, () =>
      parseSchema(parameters, 'object'),
    )
    for (const [ruleName, expression] of own) {
      rules.set(`${i} ${ruleName}`, renamed(expression, `${i} `))
    }
    return callOf(name, renamed(root, `${i} `), renamed(space, `${i} `))
  })
  const call = sequence([text(begin), choice(objects), text(end)])
  rules.set('call', call)
  const others = sequence([text(separator), rule('call')])
  const most = (maxCalls ?? Number.POSITIVE_INFINITY) - 1
  return { root: sequence([rule('call'), repeat(others, 0, most)]), rules }
}

function callOf(name: string, parameters: Expression, space: Expression): Expression {
  const written = sequence([text('"'), spelledAsJson(text(name)), text('"')])
  const parts = [text('"name":'), space, written, text(','), space, text('"arguments":'), space]
  return sequence([text('{'), space, ...parts, parameters, space, text('}')])
}

/** Its rules with a prefix: each tool has rules of its own. */
function renamed(expression: Expression, prefix: string): Expression {
  switch (expression.kind) {
    case 'char':
    case 'automaton':
      return expression
    case 'sequence':
      return { kind: 'sequence', parts: expression.parts.map((part) => renamed(part, prefix)) }
    case 'choice':
      return { kind: 'choice', options: expression.options.map((part) => renamed(part, prefix)) }
    case 'repeat':
      return { ...expression, body: renamed(expression.body, prefix) }
    case 'rule':
      return rule(`${prefix}${expression.name}`)
  }
}
