// A regular expression of a pre-tokenizer, written for Oniguruma, as one of JavaScript that matches
// the same text. Every class becomes an explicit set of code points, so that Node's Unicode version
// does not matter. What the two languages may read differently is refused by name.

import { ServerError } from '../errors.ts'
import { type CodePointSet, complement, setOf, toClass, union } from './code-point-set.ts'
import { findCategory, whiteSpace } from './unicode-categories.ts'

const mostNested = 32
const openings = ['(?:', '(?=', '(?!', '(?i:', '('] as const
const controls: Readonly<Record<string, string>> = { r: '\r', n: '\n', t: '\t', f: '\f', v: '\v' }

export function compileSplitExpression(source: string): RegExp {
  const { pattern } = createReader([...source], source)
  try {
    const compiled = new RegExp(pattern, 'gu')
    // V8 compiles at the first use.
    if (compiled.exec('')) refuse(source, 'a match of nothing')
    'aé😀'.match(compiled)
    return compiled
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    return refuse(source, error.message.split(': ').at(-1)!)
  }
}

function refuse(source: string, what: string): never {
  const shown = source.length > 60 ? `${source.slice(0, 60)}…` : source
  throw new ServerError(
    'unsupported_checkpoint',
    `tokenizer.json: ${what} in the pre_tokenizer's expression ${JSON.stringify(shown)} is not ` +
      'supported; classes, groups, (?i:…) over ASCII, (?=…), (?!…) and plain quantifiers are.',
  )
}

function createReader(chars: readonly string[], source: string) {
  let at = 0

  const startsWith = (text: string) => [...text].every((char, i) => chars[at + i] === char)

  const fold = (set: CodePointSet, foldsCase: boolean) => (foldsCase ? foldCase(set, source) : set)

  /** Alternatives up to ")" or the end. */
  function readAlternatives(foldsCase: boolean, depth: number): string {
    if (depth > mostNested) refuse(source, `a group nested ${depth} deep`)
    let out = ''
    let literals = ''
    while (at < chars.length && chars[at] !== ')') {
      if (chars[at] === '|') {
        out += '|'
        literals = ''
        at++
        continue
      }
      const literal = /[a-z]/i.test(chars[at]!) ? chars[at]! : ''
      literals = literal && literals + literal
      // Folded, these also match one ligature or sharp s.
      if (foldsCase && /ss|st|f[fil]/i.test(literals)) refuse(source, `(?i:${literals})`)
      const atom = readAtom(foldsCase, depth)
      const quantifier = readQuantifier()
      // (a+)+ tries every way of cutting a text: time that doubles with each character.
      if (quantifier !== '' && quantifier !== '?' && /^\(.*\)$/.test(atom) && isRepeating(atom)) {
        refuse(source, `a group with a quantifier inside and ${quantifier} behind it`)
      }
      out += atom + quantifier
    }
    return out
  }

  function readAtom(foldsCase: boolean, depth: number): string {
    const char = chars[at]!
    if (char === '(') return readGroup(foldsCase, depth)
    if (char === '[') return toClass(readClass(foldsCase))
    if (char === '\\') return toClass(fold(readEscape(), foldsCase))
    if (char === '$') return readLineEnd()
    if ('^.*+?{})]'.includes(char)) refuse(source, JSON.stringify(char))
    at++
    return toClass(fold(setOf(char), foldsCase))
  }

  /** Oniguruma's $ stands before each line feed, too. */
  function readLineEnd(): string {
    at++
    if (/[?*+{]/.test(chars[at] ?? '')) refuse(source, '$ with a quantifier')
    return '(?![^\\n])'
  }

  function readGroup(foldsCase: boolean, depth: number): string {
    const opening = openings.find(startsWith)!
    at += opening.length
    if (opening === '(' && chars[at] === '?') refuse(source, `(?${chars[at + 1] ?? ''}`)
    const inner = readAlternatives(foldsCase || opening === '(?i:', depth + 1)
    if (chars[at] !== ')') refuse(source, 'a group without its end')
    at++
    const isLook = opening === '(?=' || opening === '(?!'
    if (isLook && /[?*+{]/.test(chars[at] ?? '')) refuse(source, `${opening}…) with a quantifier`)
    return `${isLook ? opening : '(?:'}${inner})`
  }

  function readQuantifier(): string {
    const rest = chars.slice(at, at + 16).join('')
    const quantifier = /^(?:[?*+]|\{\d{1,2}(?:,(?:\d{1,2})?)?\})/.exec(rest)?.[0] ?? ''
    at += quantifier.length
    const following = chars[at] ?? ''
    if (quantifier && /[?*+{]/.test(following)) refuse(source, `${quantifier}${following}`)
    const [, least, most] = /^\{(\d+),(\d+)\}$/.exec(quantifier) ?? []
    if (most && Number(most) < Number(least)) refuse(source, quantifier)
    return quantifier
  }

  function readClass(foldsCase: boolean): CodePointSet {
    at++
    const isNegated = chars[at] === '^'
    if (isNegated) at++
    const sets: CodePointSet[] = []
    for (let isFirst = true; chars[at] !== ']' || isFirst; isFirst = false) {
      const char = chars[at]
      if (char === undefined) refuse(source, 'a class without its end')
      if (isFirst && char === ']') refuse(source, '[]')
      if (char === '[' || startsWith('&&')) refuse(source, `${char} inside a class`)
      sets.push(readRange())
    }
    at++
    const set = fold(union(...sets), foldsCase)
    return isNegated ? complement(set) : set
  }

  /** One character of a class, a set of them, or a range. */
  function readRange(): CodePointSet {
    const first = readClassPart()
    if (chars[at] !== '-' || chars[at + 1] === ']' || chars[at + 1] === undefined) return first
    if (chars[at + 1] === '[') refuse(source, '-[ inside a class')
    at++
    const last = readClassPart()
    const [low, high] = [single(first), single(last)]
    if (low === undefined || high === undefined || low > high) refuse(source, 'a range in a class')
    return [[low, high]]
  }

  function readClassPart(): CodePointSet {
    if (chars[at] === '\\') return readEscape()
    const set = setOf(chars[at]!)
    at++
    return set
  }

  function readEscape(): CodePointSet {
    const name = chars[at + 1]
    at += 2
    if (name === undefined) refuse(source, '\\ at the end')
    if (name === 's') return whiteSpace
    if (name === 'S') return complement(whiteSpace)
    if (name === 'd') return findCategory('Nd')!
    if (name === 'D') return complement(findCategory('Nd')!)
    if (name in controls) return setOf(controls[name]!)
    if (name === 'u') return readHex(/^[0-9a-f]{4}/i)
    if (name === 'x') return readHex(/^(?:[0-7][0-9a-f]|\{[0-9a-f]{1,6}\})/i)
    if (name === 'p' || name === 'P') return readProperty(name === 'P')
    if (/[a-z0-9]/i.test(name)) refuse(source, `\\${name}`)
    return setOf(name)
  }

  function readHex(form: RegExp): CodePointSet {
    const digits = form.exec(chars.slice(at, at + 8).join(''))?.[0]
    const codePoint = Number.parseInt(digits?.replace('{', '') ?? '', 16)
    const isCharacter = codePoint <= 0x10ffff && !(codePoint >= 0xd800 && codePoint <= 0xdfff)
    if (!digits || !isCharacter) refuse(source, 'a number of no character')
    at += digits.length
    return setOf(String.fromCodePoint(codePoint))
  }

  function readProperty(isNegated: boolean): CodePointSet {
    const name = /^\{([A-Z][a-z]?)\}/.exec(chars.slice(at, at + 4).join(''))?.[1]
    const set = name === undefined ? undefined : findCategory(name)
    if (!name || !set) refuse(source, `\\p${chars.slice(at, at + 12).join('')}`)
    at += name.length + 2
    return isNegated ? complement(set) : set
  }

  const pattern = readAlternatives(false, 0)
  if (at < chars.length) refuse(source, '")" without its group')
  return { pattern }
}

/** Case-folding pairs ASCII letters, and two with others: K with U+212A, s with U+017F. */
function foldCase(set: CodePointSet, source: string): CodePointSet {
  const isAscii = set.every(([, end]) => end < 0x80)
  if (!isAscii) refuse(source, 'more than ASCII inside (?i:…)')
  const chars = set.flatMap(([first, end]) =>
    Array.from({ length: end - first + 1 }, (_, i) => String.fromCharCode(first + i)),
  )
  const others = chars.flatMap((char) => [
    char.toLowerCase(),
    char.toUpperCase(),
    ...(/k/i.test(char) ? ['\u212a'] : []),
    ...(/s/i.test(char) ? ['\u017f'] : []),
  ])
  return union(set, setOf(others.join('')))
}

/** Whether a pattern of ours holds a quantifier: outside of classes, where \u{…} has braces. */
function isRepeating(pattern: string): boolean {
  return /[*+{]|[^(]\?/.test(pattern.replace(/\[[^\]]*\]/g, 'c'))
}

/** The set's only code point. */
function single(set: CodePointSet): number | undefined {
  return set.length === 1 && set[0]![0] === set[0]![1] ? set[0]![0] : undefined
}
