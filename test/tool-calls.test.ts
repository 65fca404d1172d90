// Calls of tools in an answer's text: each format as its models write it, and the same result however the
// text is cut into pieces.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { ToolFormat } from '../server/contracts/engine.ts'
import { createToolReader, type ReplyPiece } from '../server/tool-calls/tool-reader.ts'

const begin = '<｜tool▁call▁begin｜>'
const sep = '<｜tool▁sep｜>'
const end = '<｜tool▁call▁end｜>'
const listBegin = '<｜tool▁calls▁begin｜>'
const listEnd = '<｜tool▁calls▁end｜>'
const names = ['add', 'get_time']

interface Read {
  readonly text: string
  readonly calls: readonly (readonly [name: string, args: string])[]
}

/** What the pieces of a text are together; `kinds` keeps their order. */
function read(format: ToolFormat, pieces: readonly string[], maxCalls = Infinity): Read {
  const reader = createToolReader({ format, names, maxCalls })
  const told: ReplyPiece[] = [...pieces.flatMap((piece) => reader.push(piece)), ...reader.finish()]
  let text = ''
  const calls: [string, string][] = []
  for (const piece of told) {
    if (piece.kind === 'text') text += piece.text
    else if (piece.kind === 'call') {
      assert.equal(piece.call, calls.length, 'calls are numbered in their order')
      calls.push([piece.name, ''])
    } else {
      assert.equal(piece.call, calls.length - 1, 'arguments belong to the last call')
      calls.at(-1)![1] += piece.text
    }
  }
  assert.equal(reader.numCalls, calls.length)
  return { text, calls }
}

const whole = (format: ToolFormat, text: string) => read(format, [text])

describe('hermes calls', () => {
  const call = (json: string) => `<tool_call>\n${json}\n</tool_call>`
  const add = '{"name": "add", "arguments": {"a": 1, "b": [2, "}"]}}'

  const cases: readonly (readonly [string, string, Read])[] = [
    ['one', call(add), { text: '', calls: [['add', '{"a": 1, "b": [2, "}"]}']] }],
    [
      'two, with text before them',
      `Let me see.\n${call(add)}\n${call('{"name": "get_time", "arguments": {}}')}`,
      {
        text: 'Let me see.',
        calls: [
          ['add', '{"a": 1, "b": [2, "}"]}'],
          ['get_time', '{}'],
        ],
      },
    ],
    [
      'arguments before the name',
      call('{"arguments": {"a": 1}, "name": "add"}'),
      { text: '', calls: [['add', '{"a": 1}']] },
    ],
    ['no arguments', call('{"name": "add"}'), { text: '', calls: [['add', '{}']] }],
    [
      'arguments as a JSON text',
      call('{"name": "add", "arguments": "{\\"a\\": 1}"}'),
      { text: '', calls: [['add', '{"a": 1}']] },
    ],
    ['no call', 'just text\n', { text: 'just text\n', calls: [] }],
    ['a mark alone', 'a <tool_call> b', { text: 'a <tool_call> b', calls: [] }],
    [
      'a mark that was text before one that is none',
      `<tool_call>x ${call(add)}`,
      { text: '<tool_call>x', calls: [['add', '{"a": 1, "b": [2, "}"]}']] },
    ],
    [
      'no end mark, and text behind',
      `<tool_call>${add} done`,
      { text: 'done', calls: [['add', '{"a": 1, "b": [2, "}"]}']] },
    ],
    [
      'an end mark that ends nothing',
      `${call(add)}a</tool_call>`,
      { text: 'a</tool_call>', calls: [['add', '{"a": 1, "b": [2, "}"]}']] },
    ],
    [
      'cut in its arguments',
      '<tool_call>{"name": "add", "arguments": {"a": 1',
      { text: '', calls: [['add', '{"a": 1']] },
    ],
    ['cut in its name', '<tool_call>{"name": "ad', { text: '<tool_call>{"name": "ad', calls: [] }],
    [
      'arguments that are a list',
      '<tool_call>{"name": "add", "arguments": [1]}</tool_call> next',
      { text: 'next', calls: [['add', '']] },
    ],
  ]
  for (const [name, text, expected] of cases) {
    it(name, () => assert.deepEqual(whole('hermes', text), expected))
  }

  it('a later call than may be is dropped', () => {
    const { calls } = read('hermes', [`${call(add)}${call(add)}`], 1)
    assert.equal(calls.length, 1)
  })
})

describe('llama calls', () => {
  const add = '{"name": "add", "parameters": {"a": 1}}'
  const cases: readonly (readonly [string, string, Read])[] = [
    ['one', add, { text: '', calls: [['add', '{"a": 1}']] }],
    ['behind its tag', `<|python_tag|>${add}`, { text: '', calls: [['add', '{"a": 1}']] }],
    [
      'two with a semicolon',
      `${add}; ${add}`,
      {
        text: '',
        calls: [
          ['add', '{"a": 1}'],
          ['add', '{"a": 1}'],
        ],
      },
    ],
    ['JSON that names no tool', '{"name": "Bob", "age": 3}', text('{"name": "Bob", "age": 3}')],
    ['JSON without a name', '{"a": {"name": "add"}}', text('{"a": {"name": "add"}}')],
    ['a call within text', `see ${add}`, text(`see ${add}`)],
    ['code behind the tag', '<|python_tag|>print(1)', text('<|python_tag|>print(1)')],
  ]

  function text(content: string): Read {
    return { text: content, calls: [] }
  }

  for (const [name, given, expected] of cases) {
    it(name, () => assert.deepEqual(whole('llama3', given), expected))
  }
})

describe('deepseek calls', () => {
  const fenced = (name: string, args: string) =>
    `${begin}function${sep}${name}\n\`\`\`json\n${args}\n\`\`\`${end}`
  const args = '{"a": "```"}'
  const cases: readonly (readonly [string, string, Read])[] = [
    [
      'two, listed, with text before them',
      `Wait.${listBegin}${fenced('add', args)}\n${fenced('get_time', '{}')}${listEnd}`,
      {
        text: 'Wait.',
        calls: [
          ['add', args],
          ['get_time', '{}'],
        ],
      },
    ],
    [
      'as later models write them',
      `${listBegin}${begin}add${sep}${args}${end}${listEnd}`,
      { text: '', calls: [['add', args]] },
    ],
    [
      'cut in its arguments',
      `${listBegin}${begin}function${sep}add\n\`\`\`json\n{"a": `,
      { text: '', calls: [['add', '{"a": ']] },
    ],
    ['no call', 'text < more', { text: 'text < more', calls: [] }],
  ]
  for (const [name, text, expected] of cases) {
    it(name, () => assert.deepEqual(whole('deepseek', text), expected))
  }
})

describe('whatever the pieces are', () => {
  const fragments = [
    ...['<tool_call>', '</tool_call>', '<|python_tag|>', listBegin, listEnd, begin, sep, end],
    ...['{"name": "add"', ', "arguments": {', '"a": [1, {"b": "}\\""}]', '}}', '}', '{', '"', ';'],
    ...['"name": "add"', '"parameters": ', '"arguments": "{}"', ',', ': ', '[', ']', 'true', '-1'],
    ...['add\n```json\n', '\n```', 'function', ' ', '\n', 'text', '🙂', '<', '\\', 'get_time'],
    '{"name": "add", "arguments": {"a": "x"}}',
    '{"name": "get_time", "parameters": {}}',
  ]
  const text = fc
    .array(fc.oneof(fc.constantFrom(...fragments), fc.string({ maxLength: 3 })), { maxLength: 14 })
    .map((all) => all.join(''))

  for (const format of ['hermes', 'llama3', 'deepseek'] as const) {
    it(`${format} tells the same`, () => {
      fc.assert(
        fc.property(text, fc.infiniteStream(fc.integer({ min: 1, max: 7 })), (all, sizes) => {
          const pieces: string[] = []
          for (let at = 0; at < all.length; ) {
            const size = sizes.next().value
            pieces.push(all.slice(at, at + size))
            at += size
          }
          assert.deepEqual(read(format, pieces), whole(format, all))
        }),
        { numRuns: 3000, seed: 18 },
      )
    })

    it(`${format} leaves text without marks as it is`, () => {
      fc.assert(
        fc.property(fc.string(), (all) => {
          fc.pre(!/[<{]/.test(all))
          assert.deepEqual(whole(format, all), { text: all, calls: [] })
        }),
        { numRuns: 300, seed: 18 },
      )
    })
  }
})
