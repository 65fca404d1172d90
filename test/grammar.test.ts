// Grammars as texts are matched by them: expressions, rules, what is hostile, and which tokens may come.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { grammarOf } from '../server/constraints/grammar-of.ts'
import type { OutputConstraint } from '../server/contracts/constraint.ts'
import {
  complement,
  intersect,
  matches,
  ofWords,
  toAutomaton,
} from '../server/grammar/automaton.ts'
import { GrammarError } from '../server/grammar/expression.ts'
import { buildMachine } from '../server/grammar/machine.ts'
import { createMatcher } from '../server/grammar/matcher.ts'
import { parseRegex } from '../server/grammar/regex.ts'
import { buildTokenTrie } from '../server/grammar/token-trie.ts'

const all = { isWritable: () => true }

function open(constraint: OutputConstraint) {
  return createMatcher(buildMachine(grammarOf(constraint), all))
}

/** Whether a text is whole, the beginning of one, or neither. */
function look(constraint: OutputConstraint, text: string): 'whole' | 'part' | 'no' {
  const matcher = open(constraint)
  const state = matcher.read(matcher.start(), Buffer.from(text))
  if (state === null) return 'no'
  return state.isFinal ? 'whole' : 'part'
}

function regex(pattern: string): OutputConstraint {
  return { kind: 'regex', pattern }
}

function grammar(text: string): OutputConstraint {
  return { kind: 'grammar', text }
}

function refusal(constraint: OutputConstraint): string {
  try {
    open(constraint).start()
  } catch (error) {
    assert.ok(error instanceof GrammarError, String(error))
    return error.message
  }
  return assert.fail('it was taken')
}

describe('regular expressions', () => {
  const patterns = [
    'a+b',
    '(a|b)*abb',
    '[a-c]{2,4}',
    '(ab?){2,3}|c',
    '[^a]b',
    '\\w\\s\\d',
    'a{0}b',
    '(a*)*b',
    '\\u{1F600}?é',
    '.b',
    '',
  ]
  const texts = fc.string({
    unit: fc.constantFrom('a', 'b', 'c', ' ', '1', 'é', '😀', '\n'),
    maxLength: 9,
  })

  it('match what ECMAScript matches, whole texts and found ones', () => {
    fc.assert(
      fc.property(fc.constantFrom(...patterns), texts, (pattern, text) => {
        const whole = new RegExp(`^(?:${pattern})$`, 'u').test(text)
        assert.equal(look(regex(pattern), text) === 'whole', whole)
        const found = toAutomaton(parseRegex(pattern, { isFound: true }))
        assert.equal(matches(found, text), new RegExp(pattern, 'u').test(text))
      }),
      { seed: 1, numRuns: 600 },
    )
  })

  it('have anchors where a text begins and ends', () => {
    for (const [pattern, text, expected] of [
      ['^a', 'ab', true],
      ['^b', 'ab', false],
      ['b$', 'ab', true],
      ['^(a|b)$', 'ab', false],
      ['(^a|b$)', 'xb', true],
      ['^$', '', true],
      ['^$', 'a', false],
    ] as const) {
      const found = toAutomaton(parseRegex(pattern, { isFound: true }))
      assert.equal(matches(found, text), expected, `${pattern} in ${text}`)
      assert.equal(new RegExp(pattern).test(text), expected)
    }
  })

  it('may escape what needs no escape', () => {
    for (const [pattern, text] of [
      ['\\p{L}+\\-\\d', 'añ-1'],
      ['[\\p{L}\\-\\_]+', 'a-_'],
      ['\\"\\@\\ \\\\', '"@ \\'],
      ['a{', 'a{'],
    ] as const) {
      assert.equal(look(regex(pattern), text), 'whole', pattern)
    }
  })

  it('that a machine would backtrack over for ever are read in one go', () => {
    for (const pattern of ['(a+)+$', '(a|a)*b', '(a*)*b', '(a|aa)+b', '(.*a){12}b']) {
      assert.equal(
        look(regex(pattern), `${'a'.repeat(3000)}c`),
        pattern.startsWith('(.*') ? 'part' : 'no',
      )
    }
  })

  it('of what cannot be decoded by are refused by name', () => {
    for (const [pattern, named] of [
      ['(?=a)b', '(?=a)'],
      ['(?<!a)b', '(?<!a)'],
      ['\\bx', '\\\\b'],
      ['(a)\\1', '\\\\1'],
      // Plain letters for ECMAScript; other languages mean something else.
      ['\\Aab\\Z', '\\\\A'],
      ['\\u{110000}', '\\\\u'],
      ['\\p{Nonsense}', '\\\\p'],
      ['\\k<n>', '\\\\k'],
      ['\\1', '\\\\1'],
      ['[[:alpha:]]', '[[:alpha:]'],
      ['a{,5}', '{,5}'],
      ['a^b', '^'],
      ['(((', '((('],
      ['[z-a]', '[z-a]'],
      ['a{3,1}', 'a{3,1}'],
      ['(a{1,1000}){1,1000}', 'multiply'],
      [`(${'a'.repeat(30_000)})`, '20000 characters'],
    ] as const) {
      assert.ok(refusal(regex(pattern)).includes(named), `${pattern}: ${refusal(regex(pattern))}`)
    }
  })

  it('too ambiguous to follow end in an error, not in hours', () => {
    const matcher = open(regex('(a{1,300}){1,300}'))
    assert.throws(() => matcher.read(matcher.start(), Buffer.from('a'.repeat(2000))), GrammarError)
  })
})

describe('automata', () => {
  it('know both, and neither', () => {
    const a = toAutomaton(parseRegex('[a-m]+', { isFound: false }))
    const b = toAutomaton(parseRegex('.{3}', { isFound: false }))
    const both = intersect(a, b)
    assert.deepEqual(
      ['abc', 'ab', 'xyz'].map((text) => matches(both, text)),
      [true, false, false],
    )
    const others = complement(ofWords(['ab', 'abc', '']))
    assert.deepEqual(
      ['ab', 'abc', '', 'a', 'abcd', 'x'].map((text) => matches(others, text)),
      [false, false, false, true, true, true],
    )
  })
})

describe('grammars in EBNF', () => {
  const list = grammar(`
    # a list of lists
    root  ::= "[" (item ("," item)*)? "]"   # white space
    item  ::= [0-9]+ | root
            | "x"{2,3} | "\\u00e9" | [^a-z\\]]
  `)

  it('call rules within rules', () => {
    for (const text of ['[]', '[1,22,[3,[]]]', '[xx,xxx]', '[é]', '[[[[[[[[]]]]]]]]', '[A]']) {
      assert.equal(look(list, text), 'whole', text)
    }
    for (const text of ['[x]', '[1,]', 'x', '[1]]', '[a]'])
      assert.equal(look(list, text), 'no', text)
    assert.equal(look(list, '[1,[2'), 'part')
  })

  it('recurse on the right without end', () => {
    assert.equal(look(grammar('root ::= "a" root | "b"'), `${'a'.repeat(20_000)}b`), 'whole')
  })

  it('that are none are refused with rule and place', () => {
    for (const [text, named] of [
      ['root ::= root "a" | "b"', '"root"'],
      ['root ::= a\na ::= b\nb ::= a?', '"a"'],
      ['root ::= a', '"a"'],
      ['x ::= "a"', '`root`'],
      ['root ::= "a" root', 'no text'],
      ['root ::= "a', 'line 1'],
      ['root ::= "a"\nroot ::= "b"', 'line 2'],
      ['root ::= [b-a]', 'range'],
      ['root ::= (a', 'parenthesis'],
      ['root ::= "a"{3,1}', 'count'],
      ['root ::= "\\q"', 'escape'],
      ['start: "a"', '::='],
      ['', '`root`'],
      [`root ::= ${'('.repeat(5000)}`, '200 groups'],
      [`root ::= ${'"a" '.repeat(60_000)}`, '200000 characters'],
    ] as const) {
      assert.ok(
        refusal(grammar(text)).includes(named),
        `${text.slice(0, 40)}: ${refusal(grammar(text))}`,
      )
    }
  })
})

describe('choices', () => {
  it('are exactly those', () => {
    const choice: OutputConstraint = { kind: 'choice', choices: ['yes', 'yesterday', 'né'] }
    assert.deepEqual(
      ['yes', 'yesterday', 'né', 'yest', 'no'].map((text) => look(choice, text)),
      ['whole', 'whole', 'whole', 'part', 'no'],
    )
  })
})

describe('calls of tools', () => {
  const call: OutputConstraint = {
    kind: 'tool_calls',
    begin: '<tool_call>\n',
    end: '\n</tool_call>',
    separator: '\n',
    maxCalls: 2,
    tools: [
      {
        name: 'add',
        parameters: '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}',
      },
      { name: 'now', parameters: '{"type":"object"}' },
    ],
  }
  const add = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
  const now = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'

  it('name a tool, and keep to its own parameters', () => {
    for (const text of [add, now, `${add}\n${now}`]) assert.equal(look(call, text), 'whole', text)
    for (const text of [
      `${add}\n${now}\n${add}`,
      add.replace('add', 'sub'),
      add.replace('1', '"1"'),
      add.replace('"a"', '"b"'),
      `x${add}`,
    ]) {
      assert.equal(look(call, text), 'no', text)
    }
    assert.equal(look(call, add.slice(0, -3)), 'part')
  })

  it('have an object as arguments, whatever the parameters say', () => {
    const any: OutputConstraint = { ...call, tools: [{ name: 'any', parameters: '{}' }] }
    const text = (args: string) => add.replace('"add"', '"any"').replace('{"a": 1}', args)
    assert.equal(look(any, text('{"b": [2]}')), 'whole')
    for (const args of ['1', 'null', '[]', '"x"']) assert.equal(look(any, text(args)), 'no', args)
    const words: OutputConstraint = {
      ...call,
      tools: [{ name: 'bad', parameters: '{"type":"string"}' }],
    }
    assert.match(refusal(words), /no text can satisfy it/)
  })

  it('of a tool whose parameters are no schema are refused with its name', () => {
    const message = refusal({ ...call, tools: [{ name: 'bad', parameters: '{"type":"odd"}' }] })
    assert.ok(message.startsWith('tool "bad": #/type'), message)
  })
})

describe('tokens that may come', () => {
  const words = ['a', 'b', 'ab', 'abc', 'b', '', 'é', '\n', 'ba']
  const vocabulary = words.map((word) => Buffer.from(word))
  const half = Buffer.from('é')
  const tokens = [...vocabulary, half.subarray(0, 1), half.subarray(1)]
  const trie = buildTokenTrie({ vocabSize: 40, bytesOf: (id) => tokens[id] ?? new Uint8Array() })

  function allowed(constraint: OutputConstraint, before = ''): number[] {
    const matcher = open(constraint)
    const state = matcher.read(matcher.start(), Buffer.from(before))!
    const bits = new Uint32Array(2)
    const numAllowed = matcher.allow(state, trie, bits)
    const ids = Array.from({ length: 40 }, (_, id) => id).filter(
      (id) => ((bits[id >> 5]! >>> (id & 31)) & 1) === 1,
    )
    assert.equal(ids.length, numAllowed)
    return ids
  }

  it('are all whose bytes fit, twins and half characters too, and none without bytes', () => {
    assert.deepEqual(allowed(regex('ab*')), [0, 2])
    assert.deepEqual(allowed(regex('(ab)+c'), 'a'), [1, 4, 8])
    assert.deepEqual(allowed(regex('é|abc|b')), [0, 1, 2, 3, 4, 6, 9])
    assert.deepEqual(allowed(regex('a')), [0])
    assert.deepEqual(allowed(regex('a'), 'a'), [])
  })

  it('are the same as of each text by itself, whatever was asked before', () => {
    const matcher = open({ kind: 'json_object' })
    const texts = ['{', '{"a', '{"a":1', '{"a":[', '{"a":[1]}', '{"', '{']
    const masks = texts.map((text) => {
      const bits = new Uint32Array(2)
      matcher.allow(matcher.read(matcher.start(), Buffer.from(text))!, trie, bits)
      return [...bits]
    })
    assert.deepEqual(masks[0], masks[6])
    for (const [i, text] of texts.entries()) {
      const alone = open({ kind: 'json_object' })
      const bits = new Uint32Array(2)
      alone.allow(alone.read(alone.start(), Buffer.from(text))!, trie, bits)
      assert.deepEqual([...bits], masks[i], text)
    }
  })

  it('and lead back to the same state are told', () => {
    const name = open({ kind: 'json_schema', schema: '{"type":"string"}' })
    for (const [matcher, before, expected] of [
      [open(regex('[a-c]*\n')), 'a', [0, 1, 2, 3, 4, 8]],
      [open(regex('(a|b){2,5}')), 'a', []],
      // Half a character leads elsewhere, and so does the quotation mark.
      [name, '"a', [0, 1, 2, 3, 4, 6, 8]],
    ] as const) {
      const state = matcher.read(matcher.start(), Buffer.from(before))!
      const [bits, loops] = [new Uint32Array(2), new Uint32Array(2)]
      matcher.allow(state, trie, bits, loops)
      const ids = tokens.flatMap((_, id) =>
        ((loops[id >> 5]! >>> (id & 31)) & 1) === 1 ? [id] : [],
      )
      assert.deepEqual(ids, expected)
      for (const id of ids) assert.equal(matcher.read(state, tokens[id]!), state)
    }
  })

  it('that a vocabulary cannot write bytes of are never waited for', () => {
    const isWritable = (byte: number) => byte !== 0x78
    const machine = buildMachine(grammarOf(regex('ax|ab')), { isWritable })
    const matcher = createMatcher(machine)
    assert.equal(matcher.read(matcher.start(), Buffer.from('ax')), null)
    assert.throws(() => buildMachine(grammarOf(regex('ax')), { isWritable }), GrammarError)
  })
})
