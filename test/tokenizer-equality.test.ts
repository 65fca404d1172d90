// Ids equal to the reference library's, over every pre-tokenizer that supported checkpoints use, on
// generated strings. The whole comparison, and real tokenizers besides, each a folder:
//   DUTYFREE_TOKENIZER_STRINGS=100000 DUTYFREE_TOKENIZERS=folder,folder \
//     node --test dist/test/tokenizer-equality.test.js

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { CodePointSet } from '../server/tokenizer/code-point-set.ts'
import { normalizeNfc } from '../server/tokenizer/normalizer.ts'
import { createPreTokenizer, gpt2Expression, numeric } from '../server/tokenizer/pre-tokenizer.ts'
import { compileSplitExpression } from '../server/tokenizer/split-expression.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { findCategory, whiteSpace } from '../server/tokenizer/unicode-categories.ts'
import { lacksPython, python } from './support/python.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { categories, createStrings } from './support/unicode-strings.ts'

const temp = createTempFolder()
const script = join(root, 'test', 'support', 'tokenizer_equality.py')
const numStrings = Number(process.env.DUTYFREE_TOKENIZER_STRINGS ?? 3000)
const realFolders = process.env.DUTYFREE_TOKENIZERS?.split(',') ?? []
const trained = [
  'qwen2',
  'llama3',
  'deepseek3',
  'deepseek-coder',
  'deepseek-llm',
  'gpt2',
  'smollm2',
  'digits',
  'tekken',
]
const added = [
  '<|a|>',
  '<|a|>b',
  '<think>',
  'e\u0301<',
  'é<',
  '<th',
  '<mask>',
  ' <mask>\u0085',
  '[left]',
]

const ask = (...args: string[]) => execFileSync(python, [script, ...args])
const readLines = (path: string) => readFileSync(path, 'utf8').trimEnd().split('\n')

describe('tokenizer equality', { skip: lacksPython }, () => {
  test('every pre-tokenizer gives the ids of the reference library', (t) => {
    const folder = join(temp, 'equality')
    mkdirSync(folder)
    const next = createStrings(20_261_128, added)
    const texts = Array.from({ length: numStrings }, next)
    const strings = texts.map((text) => `${JSON.stringify(text.toWellFormed())}\n`)
    writeFileSync(join(folder, 'strings.jsonl'), strings.join(''))
    ask(folder, 'train')
    const dirs = [
      ...trained.map((name) => join(folder, name)),
      join(root, 'models', 'tiny-reasoner'),
      ...realFolders,
    ]
    ask(folder, 'encode', ...dirs.map((dir) => join(dir, 'tokenizer.json')))
    for (const [i, dir] of dirs.entries()) {
      const tokenizer = loadTokenizer(dir)
      const expected = readLines(join(folder, `ids-${i}.jsonl`))
      assert.equal(expected.length, texts.length)
      const different = texts.filter(
        (text, j) => tokenizer.encode(text).join() !== expected[j]!.replace(/[[\] ]/g, ''),
      )
      t.diagnostic(`${dir.split('/').at(-1)}: ${texts.length} strings, ${different.length} differ`)
      assert.deepEqual(different.slice(0, 5).map(toEscaped), [], dir)
    }
  })

  test('categories, White_Space, numbers and NFC of code points are the reference library’s', () => {
    const folder = join(temp, 'unicode')
    mkdirSync(folder)
    // All but the insides of the large blocks, and surrogates.
    const codePoints = range(0, 0x3500).concat(
      range(0x9f00, 0xad00),
      range(0xd700, 0xd800),
      range(0xe000, 0xe010),
      range(0xf8f0, 0x17010),
      range(0x18700, 0x20010),
      range(0x2f7f0, 0x31360),
      range(0xe0000, 0xe0200),
    )
    const marks = [0x334, 0x3099, 0x94d, 0x591, 0x327, 0x323, 0x301, 0x345, 0x1161, 0x11a8]
    const around = marks.map((mark) => String.fromCodePoint(mark))
    const texts = codePoints
      .map((codePoint) => String.fromCodePoint(codePoint))
      .filter((char) => /\p{M}/u.test(char) || char.normalize('NFD') !== char)
      .flatMap((char) => [
        char,
        ...around.flatMap((mark) => [`a${mark}${char}`, `a${char}${mark}`]),
      ])
      .concat(codePoints.map((one) => String.fromCodePoint(one).normalize('NFD')))
    writeFileSync(join(folder, 'unicode.json'), JSON.stringify({ codePoints, categories, texts }))
    ask(folder, 'unicode')
    const answers = JSON.parse(readFileSync(join(folder, 'answers.json'), 'utf8'))

    const chosen = (set: CodePointSet) => {
      const inside = codePoints.filter((one) => contains(set, one))
      return inside.map((one) => String.fromCodePoint(one)).join('')
    }
    for (const name of categories) {
      assert.equal(chosen(findCategory(name)!), answers.categories[name], name)
    }
    assert.equal(chosen(whiteSpace), answers.spaces)
    assert.equal(chosen(numeric), answers.numbers)
    assert.deepEqual(
      texts.filter((text, i) => normalizeNfc(text) !== answers.normalized[i]).map(toEscaped),
      [],
    )
  })
})

test('JavaScript’s own \\s and \\p{…} are not used: the cases that were reported', () => {
  const words = (expression: string, text: string) => text.match(compileSplitExpression(expression))
  assert.deepEqual(words('\\s+', '  \ufeff\u0085'), ['  ', '\u0085'])
  assert.deepEqual(words("(?i:'s|'k)", "'ſ'K'S'k"), ["'ſ", "'K", "'S", "'k"])
  // No lower-case letter in newer versions of Unicode.
  assert.deepEqual(words('\\p{Ll}', '\u0295'), ['\u0295'])
})

test('a look-ahead alone cuts before what it sees, and steps over whole code points', () => {
  const split = createPreTokenizer([{ kind: 'expression', source: '(?=😀)' }])
  assert.deepEqual(split('😀a😀😀'), ['😀a', '😀', '😀'])
})

test('many words take no longer than long ones: an expression is not copied for each', () => {
  const split = createPreTokenizer([
    { kind: 'digits', areIndividual: true },
    { kind: 'expression', source: gpt2Expression },
  ])
  const start = performance.now()
  assert.equal(split('0123456789'.repeat(20_000)).length, 200_000)
  // A tenth of a second; copies take 7 s.
  assert.ok(performance.now() - start < 3000)
})

const refused: readonly (readonly [string, string, string])[] = [
  ['a possessive quantifier', '\\p{L}++', '++'],
  ['a lazy quantifier', '\\p{L}+?', '+?'],
  ['an atomic group', '(?>a)', '(?>'],
  ['look-behind', '(?<=a)b', '(?<'],
  ['a script', '\\p{Han}+', '\\\\p{Han}'],
  ['a word boundary', 'a\\b', '\\\\b'],
  ['word characters', '\\w+', '\\\\w'],
  ['an anchor', '^a', '"^"'],
  ['an anchor that repeats', 'a$+', '$ with a quantifier'],
  ['any character', '.+', '"."'],
  ['an intersection', '[a-z&&[aeiou]]', '& inside a class'],
  ['a POSIX class', '[[:alpha:]]', '[ inside a class'],
  ['folding beyond ASCII', '(?i:é)', 'more than ASCII'],
  ['folding to a ligature', '(?i:fine)', '(?i:fi)'],
  ['a match of nothing', 'a*', 'a match of nothing'],
  ['a group without its end', '(a', 'without its end'],
  ['nested quantifiers', '(?:a+)+', 'a group with a quantifier inside'],
  ['nested quantifiers', '(a{2}|b)*', 'a group with a quantifier inside'],
  ['a back-reference', '(a)\\1', '\\\\1'],
]
for (const [title, expression, what] of refused) {
  test(`an expression is refused by name: ${title}`, () => {
    assert.throws(
      () => compileSplitExpression(expression),
      (error: Error & { code?: string }) =>
        error.code === 'unsupported_checkpoint' &&
        error.message.includes(what.replace('\\\\', '\\')),
    )
  })
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
const contains = (set: CodePointSet, one: number) => set.some(([a, b]) => a <= one && one <= b)

function toEscaped(text: string): string {
  return text.replace(/[^ -~]/gu, (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`)
}
