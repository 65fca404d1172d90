// The tokenizer: bytes of tokens, prompts, what is refused, time for hostile words, and the same
// ids as transformers on strings of every kind.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ChatMessage } from '../server/contracts/generation.ts'
import { loadChatTemplate } from '../server/tokenizer/chat-template.ts'
import { createTokenTexts } from '../server/tokenizer/token-texts.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { type ByteTokenizerOptions, writeByteTokenizer } from './support/byte-tokenizer.ts'
import { lacksPython, python } from './support/python.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
let numFolders = 0

function load(options: ByteTokenizerOptions = {}) {
  const dir = join(temp, `tokenizer-${++numFolders}`)
  writeByteTokenizer(dir, options)
  return loadTokenizer(dir)
}

const bos = 300

test('merges apply lowest rank first, and leftmost first among equals', () => {
  const { encode } = load()
  assert.deepEqual(encode('abc'), [257])
  assert.deepEqual(encode('aabb'), [97, 256, 98])
  // Five spaces: pairs from the left, then pairs of pairs.
  assert.deepEqual(encode('     '), [259, 32])
})

test('every byte survives a round trip, through tokens of any cut', () => {
  const { encode, decode, tokenBytes, tokenText } = load()
  const text = '\0é👩‍🚀\u2028 \uFEFFabc'
  assert.equal(decode(encode(text)), text)
  assert.deepEqual([...tokenBytes(0xe9)], [0xe9])
  assert.equal(tokenText(0xe9), '\uFFFD')
  assert.deepEqual([...tokenBytes(257)], [97, 98, 99])
})

test('added tokens are recognised in text, and are their own UTF-8 as bytes', () => {
  const { encode, isSpecial, idOf, tokenText, specialTexts, vocabSize, tokenBytes } = load()
  assert.deepEqual(encode('<think>ab<｜end▁of▁sentence｜>'), [304, 256, 301])
  assert.equal(tokenText(302), '<｜User｜>')
  assert.deepEqual([isSpecial(301), isSpecial(304), isSpecial(97)], [true, false, false])
  assert.deepEqual([idOf('</think>'), idOf('none')], [305, undefined])
  assert.equal(specialTexts.length, 6)
  assert.equal(vocabSize, 306)
  // Models pad their vocabulary: such an id has no bytes and does no harm.
  for (const id of [290, 306, 100_000, -1]) assert.equal(tokenBytes(id).length, 0)
})

test('segments are encoded apart: no added token spans two', () => {
  const { encodeSegments } = load()
  assert.deepEqual(encodeSegments(['<', 'think>']), [...Buffer.from('<think>')])
  assert.deepEqual(encodeSegments(['a', '', 'b']), [97, 98])
})

test('half a surrogate pair is encoded as U+FFFD', () => {
  const { encode, decode } = load()
  assert.equal(decode(encode('a\uD83Db')), 'a\uFFFDb')
})

test('a plain prompt gets what the post-processor or the config put around it', () => {
  const frame = (options: ByteTokenizerOptions) =>
    load(options).encodePrompt('ab', { addSpecialTokens: true })
  const template = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<｜begin▁of▁sentence｜>' } }, { Sequence: { id: 'A' } }],
  }
  assert.deepEqual(frame({}), [256])
  assert.deepEqual(frame({ json: { post_processor: null } }), [256])
  assert.deepEqual(frame({ json: { post_processor: template } }), [bos, 256])
  const processors = [{ type: 'ByteLevel' }, template]
  const sequence = { json: { post_processor: { type: 'Sequence', processors } } }
  assert.deepEqual(frame(sequence), [bos, 256])
  assert.deepEqual(frame({ ...sequence, config: { add_bos_token: false } }), [256])
  assert.deepEqual(frame({ config: { add_bos_token: true, add_eos_token: true } }), [bos, 256, 301])
  const plain = load(sequence).encodePrompt('ab', { addSpecialTokens: false })
  assert.deepEqual(plain, [256])
})

test('a named added token that only the config knows is added', () => {
  const decoder = { 299: { content: '<|extra|>', special: true } }
  const { encode } = load({ config: { added_tokens_decoder: decoder } })
  assert.deepEqual(encode('a<|extra|>'), [97, 299])
})

const refused: readonly (readonly [string, Record<string, unknown>, RegExp])[] = [
  ['WordPiece', { model: { type: 'WordPiece', vocab: {}, merges: [] } }, /model WordPiece/],
  [
    'SentencePiece',
    { model: { type: 'BPE', vocab: {}, merges: [], byte_fallback: true } },
    /byte_fallback/,
  ],
  ['lower case', { normalizer: { type: 'Lowercase' } }, /normalizer Lowercase/],
  ['words on white space', { pre_tokenizer: { type: 'Whitespace' } }, /not ByteLevel/],
  [
    'a space in front',
    { pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } },
    /prefix_space/,
  ],
  ['BERT’s markers', { post_processor: { type: 'BertProcessing' } }, /BertProcessing/],
  [
    'whole words only',
    { added_tokens: [{ id: 1, content: 'x', single_word: true }] },
    /single_word/,
  ],
]
for (const [title, json, says] of refused) {
  test(`not supported: ${title}`, () => {
    assert.throws(() => load({ json }), { code: 'unsupported_checkpoint', message: says })
  })
}

const conflicts: readonly (readonly [string, object, RegExp])[] = [
  ['a text of another id', { id: 400, content: 'a' }, /"a" of the id 400 has the id 97 too/],
  ['an id of the vocabulary', { id: 97, content: '<x>' }, /"<x>" of the id 97 shares its id/],
]
for (const [title, token, says] of conflicts) {
  test(`an added token is refused that gives ${title}`, () => {
    const thrown = { code: 'invalid_checkpoint', message: says }
    assert.throws(() => load({ json: { added_tokens: [token] } }), thrown)
  })
}

const merges: readonly unknown[] = [
  'a b',
  'a',
  5,
  null,
  ['a'],
  [1, 2],
  ['a', { toString: 1 }],
  'a b c',
]
for (const merge of merges) {
  test(`a merge that is no two tokens making a third is refused: ${JSON.stringify(merge)}`, () => {
    const model = { type: 'BPE', vocab: { a: 0, b: 1 }, merges: [merge] }
    const thrown = { code: 'invalid_checkpoint', message: /merges\[0\] must be two tokens/ }
    assert.throws(() => load({ json: { model } }), thrown)
  })
}

test('time grows with the length, not with its square, on words without an end', () => {
  const { encode } = load()
  const seconds = (text: string) => {
    const start = performance.now()
    encode(text)
    return (performance.now() - start) / 1000
  }
  for (const part of ['abc', ' ', '👨‍👩‍👧', ' \n', '<｜User', 'a\u0301']) {
    encode(part.repeat(1000))
    const short = seconds(part.repeat(20_000))
    const long = seconds(part.repeat(160_000))
    // Eight times the text; a square would take 64 times as long.
    assert.ok(long < 30 * Math.max(short, 0.01), `${JSON.stringify(part)}: ${short} s, ${long} s`)
  }
})

interface Cases {
  readonly texts: { text: string; ids: number[]; prompt: number[]; decoded: string }[]
  readonly chats: { messages: ChatMessage[]; ids: number[] }[]
}

test('the same ids, prompts, chats and text as transformers', { skip: lacksPython }, (t) => {
  const out = join(temp, 'reference')
  execFileSync(python, [join(root, 'test', 'support', 'tokenizer_reference.py'), out])
  for (const name of ['llama', 'qwen']) {
    const dir = join(out, name)
    const tokenizer = loadTokenizer(dir)
    const template = loadChatTemplate(dir, tokenizer)
    const cases: Cases = JSON.parse(readFileSync(join(dir, 'cases.json'), 'utf8'))
    for (const { text, ids, prompt, decoded } of cases.texts) {
      const shown = `${name}: ${JSON.stringify(text.slice(0, 80))}`
      assert.deepEqual(tokenizer.encode(text), ids, shown)
      assert.deepEqual(tokenizer.encodePrompt(text, { addSpecialTokens: true }), prompt, shown)
      assert.equal(tokenizer.decode(prompt), decoded, shown)
    }
    for (const { messages, ids } of cases.chats) {
      // A combining mark in front is kept apart from the template on purpose.
      if (/^\s*\p{M}/u.test(messages[0]!.content)) continue
      const { tokens } = template.encode(messages, { addGenerationPrompt: true })
      assert.deepEqual(tokens, ids, `${name}: ${JSON.stringify(messages).slice(0, 100)}`)
    }
    t.diagnostic(`${name}: ${cases.texts.length} texts and ${cases.chats.length} chats agree`)
  }
})

test('the texts of tokens are those of the tokenizer, also where it was never loaded', () => {
  const tokenizer = load({ config: { add_bos_token: true } })
  const texts = createTokenTexts(structuredClone(tokenizer.table))
  const ids = Array.from({ length: tokenizer.vocabSize + 2 }, (_, i) => i - 1)
  for (const id of ids) {
    assert.deepEqual(texts.tokenBytes(id), tokenizer.tokenBytes(id))
    assert.equal(texts.tokenText(id), tokenizer.tokenText(id))
    assert.equal(texts.isSpecial(id), tokenizer.isSpecial(id))
  }
  assert.equal(texts.decode(ids), tokenizer.decode(ids))
  for (const text of [...tokenizer.specialTexts, ...Object.values(tokenizer.namedTokens)]) {
    assert.deepEqual(tokenizer.encode(text), [texts.idOf(text)], text)
  }
  assert.equal(texts.idOf('no such token'), undefined)
  assert.deepEqual(texts.promptFrame, [bos])
  assert.deepEqual(tokenizer.encodePrompt('', { addSpecialTokens: true }), [bos])
})
