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
  return (text) =>
    expressions.reduce(
      (pieces, expression) => pieces.flatMap((piece) => isolate(piece, expression)),
      [text],
    )
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

/** Matches, and the text between them. */
function isolate(text: string, expression: RegExp): string[] {
  const pieces: string[] = []
  let start = 0
  for (const match of text.matchAll(expression)) {
    if (match.index > start) pieces.push(text.slice(start, match.index))
    pieces.push(match[0])
    start = match.index + match[0].length
  }
  if (start < text.length) pieces.push(text.slice(start))
  return pieces
}
