// Cuts text into the words that byte pairs are merged in: Split, Digits and ByteLevel, each over
// the pieces of the one before. All of them keep every character.

import { type CodePointSet, toClass, union } from './code-point-set.ts'
import { compileSplitExpression } from './split-expression.ts'
import { findCategory } from './unicode-categories.ts'

export type SplitStep =
  | { readonly kind: 'expression'; readonly source: string }
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'digits'; readonly areIndividual: boolean }

/** GPT-2's expression, of ByteLevel with use_regex. */
export const gpt2Expression =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

// Rust's char::is_numeric, whose Unicode (17.0) is newer than that of the expressions.
export const numeric: CodePointSet = union(findCategory('N')!, [
  [0x11de0, 0x11de9],
  [0x16ff4, 0x16ff6],
])

export function createPreTokenizer(steps: readonly SplitStep[]): (text: string) => string[] {
  const expressions = steps.map(compile)
  return (text) => {
    let pieces = [text]
    for (const expression of expressions) {
      const next: string[] = []
      for (const piece of pieces) isolate(piece, expression, next)
      pieces = next
    }
    return pieces
  }
}

function compile(step: SplitStep): RegExp {
  switch (step.kind) {
    case 'expression':
      return compileSplitExpression(step.source)
    case 'literal':
      return new RegExp(step.text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'), 'gu')
    case 'digits':
      return new RegExp(toClass(numeric) + (step.areIndividual ? '' : '+'), 'gu')
  }
}

/** Adds matches, and the text between them. Not matchAll, which copies the expression each time. */
function isolate(text: string, expression: RegExp, pieces: string[]): void {
  let start = 0
  expression.lastIndex = 0
  for (let match = expression.exec(text); match !== null; match = expression.exec(text)) {
    if (match.index > start) pieces.push(text.slice(start, match.index))
    start = expression.lastIndex
    if (match[0] !== '') pieces.push(match[0])
    // A look-ahead alone matches nothing: such a match only cuts. Half a pair would be stepped back.
    else expression.lastIndex += text.codePointAt(start)! > 0xffff ? 2 : 1
  }
  if (start < text.length) pieces.push(text.slice(start))
}
