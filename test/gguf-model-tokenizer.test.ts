// A GGUF file's tokenizer: as the files of Hugging Face, refused where it is of another kind, and the
// reference library's ids for every pre-tokenizer that is supported.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { preTokenizerNames } from '../server/gguf-model/pre-tokenizers.ts'
import { readGgufTokenizer, readGgufTokenizerConfig } from '../server/gguf-model/tokenizer-files.ts'
import { loadChatTemplate } from '../server/tokenizer/chat-template.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { type Metadata, memoryGguf } from './support/gguf-model.ts'
import { lacksPython, python } from './support/python.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { createStrings } from './support/unicode-strings.ts'

const temp = createTempFolder()
const tokenizerOf = (changes: Metadata = {}) => readGgufTokenizer(memoryGguf(changes))

test('control tokens are special, user-defined ones are not, unused ones are no tokens', () => {
  const { added_tokens: added, model } = tokenizerOf() as {
    added_tokens: { id: number; special: boolean }[]
    model: { vocab: Record<string, number>; ignore_merges: boolean }
  }
  assert.deepEqual(
    added.map(({ id, special }) => [id, special]),
    [
      [9, true],
      [10, true],
      [11, false],
    ],
  )
  assert.deepEqual([model.vocab.ab, model.vocab['[PAD12]']], [8, undefined])
  assert.equal(model.ignore_merges, true)
})

test('BOS stands before a prompt where the file says so, or where Llama 3 has it so', () => {
  const frameOf = (changes: Metadata) =>
    (tokenizerOf(changes).post_processor as { type: string }).type
  assert.equal(frameOf({}), 'TemplateProcessing')
  assert.equal(frameOf({ 'tokenizer.ggml.add_bos_token': false }), 'ByteLevel')
  assert.equal(frameOf({ 'tokenizer.ggml.pre': 'qwen2' }), 'ByteLevel')
  const asked = { 'tokenizer.ggml.pre': 'qwen2', 'tokenizer.ggml.add_bos_token': true }
  assert.equal(frameOf(asked), 'TemplateProcessing')
})

test('the template without a name is taken; tokens with a part are named', () => {
  const named = { 'tokenizer.chat_template.tool_use': 'tools' }
  assert.deepEqual(readGgufTokenizerConfig(memoryGguf(named)), {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: '<|begin|>',
    eos_token: 'c',
    clean_up_tokenization_spaces: false,
    chat_template: '{{ messages }}',
  })
  const only = { ...named, 'tokenizer.chat_template': undefined }
  assert.equal(readGgufTokenizerConfig(memoryGguf(only)).chat_template, undefined)
})

const refused: readonly (readonly [Metadata, string])[] = [
  [
    { 'tokenizer.ggml.model': 'llama' },
    'small.gguf: tokenizer.ggml.model is "llama"; only gpt2 (byte-level BPE) is supported.',
  ],
  [
    { 'tokenizer.ggml.pre': 'tekken' },
    'small.gguf: tokenizer.ggml.pre is "tekken"; qwen2, deepseek-r1-qwen, llama-bpe, llama3, llama-v3, ' +
      'smollm, gpt-2, deepseek-coder, deepseek-llm are supported. Convert the model again with a current ' +
      'llama.cpp if it is older, or use its safetensors.',
  ],
]
for (const [changes, message] of refused) {
  test(`refused: ${JSON.stringify(changes)}`, () => {
    assert.throws(() => tokenizerOf(changes), { code: 'unsupported_checkpoint', message })
  })
}

test('lists that do not fit together are named', () => {
  const messageOf = (changes: Metadata, message: string) =>
    assert.throws(() => tokenizerOf(changes), { code: 'invalid_checkpoint', message })
  messageOf(
    { 'tokenizer.ggml.token_type': [1, 3] },
    'small.gguf: tokenizer.ggml.token_type has 2 entries for 13 tokens.',
  )
  messageOf({ 'tokenizer.ggml.merges': undefined }, 'small.gguf: tokenizer.ggml.merges is missing.')
  const { metadata } = memoryGguf()
  const tokens = metadata.get('tokenizer.ggml.tokens') as readonly string[]
  messageOf(
    { 'tokenizer.ggml.tokens': ['b', ...tokens.slice(1)] },
    'small.gguf: tokenizer.ggml.tokens has "b" twice: 0 and 1.',
  )
})

test('ids equal the reference library’s, for every pre-tokenizer', { skip: lacksPython }, (t) => {
  const next = createStrings(20_261_129, ['<|begin|>', '<|end|>', '<think>', '</think>'])
  const texts = Array.from({ length: 1500 }, next)
  const lines = texts.map((text) => JSON.stringify(text.toWellFormed()))
  writeFileSync(join(temp, 'strings.jsonl'), lines.join('\n'))
  execFileSync(python, [join(root, 'test/support/gguf_checkpoint.py'), 'tokenizers', temp])
  const aliases = ['llama3', 'llama-v3']
  for (const name of preTokenizerNames.filter((name) => !aliases.includes(name))) {
    const path = join(temp, `${name}.gguf`)
    const tokenizer = loadTokenizer(path)
    const expected = readFileSync(join(temp, `${name}.jsonl`), 'utf8').split('\n')
    assert.equal(expected.length, texts.length)
    const different = texts.filter((text, i) => `[${tokenizer.encode(text)}]` !== expected[i])
    t.diagnostic(`${name}: ${texts.length} strings, ${different.length} differ`)
    assert.deepEqual(different.slice(0, 5), [], name)
    const template = loadChatTemplate(path, tokenizer)
    const rendered = template.render([{ role: 'user', content: 'Hi' }], {
      addGenerationPrompt: true,
    })
    assert.equal(rendered, 'user: Hi\n')
  }
})
