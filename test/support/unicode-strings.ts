// Generated strings in which tokenizers go apart: every category of Unicode, mixed scripts, white
// space of all kinds, numbers of every script, contractions, marks in any order, emoji, controls,
// unassigned code points and halves of surrogate pairs.

import type { CodePointSet } from '../../server/tokenizer/code-point-set.ts'
import { findCategory, whiteSpace } from '../../server/tokenizer/unicode-categories.ts'
import { createRandomNumbers, pick } from './random-numbers.ts'

export const categories =
  'Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn'.split(
    ' ',
  )

const words =
  'the Hello wOrld don’t naïve e\u0301te\u0301 über straße ſtill Kelvin ﬁn İ x y Q'.split(' ')
const contractions = "'s 't 're 've 'm 'll 'd 'S 'LL 'ſ '\u017f 'K ''s 's's 'ﬆ 'lL 'rE".split(' ')
const emoji = '😀 👨‍👩‍👧‍👦 🏳️‍🌈 👩🏽‍🚀 ❤️ 🇩🇪 1️⃣ ☃ 👍🏿 🫱🏻‍🫲🏿'.split(' ')
const lines = ['\n', '\r\n', '\r', '\n\n', ' \n', '\t', '  ', '    ', '\n \n', '\v\f']
const code = '{ } ( ) => == // /* <a> "x" a.b[0] += #! $1 %d \\n | ~ ` ^ _x @y ; :: … — «»'.split(
  ' ',
)
const lookalikes = ['\ufeff', '\u200b', '\u180e', '\u0085', '\u2060', '\u200d', '\ufe0f', '\u034f']
const halves = ['\ud83d', '\ude00', '\udfff', '\ud800']
const hangul: CodePointSet = [[0x1100, 0x11ff]]
// Marks and compositions of later versions of Unicode.
const lateParts: CodePointSet = [
  [0x11382, 0x113d0],
  [0x11930, 0x11943],
  [0x1611e, 0x1612f],
  [0x16d63, 0x16d6a],
  [0x105c9, 0x105e4],
  [0x1ab0, 0x1aff],
  [0x1e2ec, 0x1e6f5],
  [0x11de0, 0x11de9],
  [0x16ff4, 0x16ff6],
]

type Pool = () => string

export function createStrings(seed: number, added: readonly string[]): () => string {
  const random = createRandomNumbers(seed)
  const any =
    (texts: readonly string[]): Pool =>
    () =>
      texts[pick(random, texts.length)]!
  const sets = categories.map((name) => findCategory(name)!)

  function from(set: CodePointSet): string {
    const [first, end] = set[pick(random, set.length)]!
    return String.fromCodePoint(first + pick(random, end - first + 1))
  }

  /** Neighbours in the code charts: mostly one script. */
  function block(): Pool {
    const start =
      pick(random, 4) === 0 ? 0x10000 + pick(random, 0xfc0) * 16 : pick(random, 0xd7c) * 16
    return () => String.fromCodePoint(start + pick(random, 64))
  }

  const marks = ['Mn', 'Mc', 'Me'].map((name) => findCategory(name)!)
  const pools: readonly (() => Pool)[] = [
    () => () => from(sets[pick(random, sets.length)]!),
    block,
    block,
    () => () => from(whiteSpace),
    () => () => (pick(random, 3) ? from(findCategory('N')!) : String(pick(random, 1e6))),
    () => () => 'aeoe\u1e9b\u0915'[pick(random, 6)]! + from(marks[pick(random, 3)]!),
    () => () => from(lateParts),
    () => () => from(hangul),
    () => () => String.fromCodePoint(pick(random, 0x20)),
    () => any([...halves, ...emoji]),
    ...[words, words, contractions, emoji, lines, lines, code, lookalikes, added].map(
      (texts) => () => any(texts),
    ),
  ]

  return () => {
    const chosen = Array.from({ length: 1 + pick(random, 4) }, () =>
      pools[pick(random, pools.length)]!(),
    )
    const space = pick(random, 3) === 0 ? ' ' : ''
    const length = 1 + pick(random, pick(random, 8) === 0 ? 120 : 16)
    let text = ''
    for (let i = 0; i < length; i++) {
      text += chosen[pick(random, chosen.length)]!()
      if (space && pick(random, 2)) text += space
    }
    return text
  }
}
