// tokenizer.json, tokenizer_config.json and chat templates. What loads must also encode, decode and
// render; a template's own error is the request's.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { loadChatTemplate } from '../../server/tokenizer/chat-template.ts'
import { loadTokenizer } from '../../server/tokenizer/tokenizer.ts'
import { writeByteTokenizer } from '../support/byte-tokenizer.ts'
import { checkRefusal } from './claims.ts'
import { createFolder } from './file-targets.ts'
import { applyDamage, mutatedJson } from './mutations.ts'
import type { Target } from './target.ts'

const loadCodes = ['invalid_checkpoint', 'unsupported_checkpoint']
const texts = [
  '',
  'Hello  wor1d\n\n',
  '<think>\ufeff٣½</think>é e\u0301',
  "it's\0'ſ ".repeat(20),
  '👨‍👩‍👧',
]

const split = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated' })
const byteLevel = { type: 'ByteLevel', add_prefix_space: false, use_regex: false }
const qwen2 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" +
  '|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'

interface TokenizerFiles {
  readonly tokenizer: string
  readonly config: string
}

const { good, config: goodConfig } = readGood()
const goods = [
  good,
  {
    ...good,
    normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }] },
    pre_tokenizer: { type: 'Sequence', pretokenizers: [split(qwen2), byteLevel] },
  },
  {
    ...good,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { ...byteLevel, use_regex: true },
      ],
    },
  },
]
const expressions = fc
  .tuple(
    fc.constantFrom(qwen2, '[a-z]+', '(?i:a)', '\\p{N}{1,3}|[^\\s]+'),
    fc.array(
      fc.record({
        at: fc.nat(150),
        length: fc.nat(2),
        text: fc.constantFrom(
          ...'()[]{}*+?|^\\.-,'.split(''),
          '(?=',
          '(?!',
          '\\p{Lu}',
          '{2,}',
          '&&',
          'é',
        ),
      }),
      { maxLength: 3 },
    ),
  )
  .map(([expression, damages]) => damages.reduce(applyDamage, expression))
const values = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    'BPE',
    'NFC',
    'NFKC',
    'Sequence',
    'Digits',
    'ByteLevel',
    'Split',
    -1,
    1e9,
  ),
  fc.constantFrom<unknown>(
    0,
    256,
    2 ** 24,
    0.5,
    true,
    '',
    'a',
    '<think>',
    ['a', 'b'],
    'a b',
    [],
    {},
    '\ud800',
  ),
  expressions,
  expressions.map(split),
  fc.constantFrom<unknown>(
    { String: 'a' },
    { Regex: 'a' },
    { type: 'Whitespace' },
    { type: 'NFC' },
  ),
  fc.record({
    id: fc.nat(400),
    content: fc.constantFrom('<x>', 'a', 'é', ' ', '<think>', '\ufdd0', '__proto__'),
    lstrip: fc.boolean(),
    rstrip: fc.boolean(),
    normalized: fc.boolean(),
    special: fc.boolean(),
  }),
)
const keys = (
  'version added_tokens normalizer pre_tokenizer post_processor decoder model type vocab merges unk_token ' +
  'byte_fallback ignore_merges dropout continuing_subword_prefix fuse_unk pattern Regex String behavior ' +
  'invert individual_digits use_regex add_prefix_space normalizers pretokenizers processors single id ' +
  'content special normalized lstrip rstrip single_word added_tokens_decoder chat_template bos_token ' +
  'eos_token add_bos_token add_eos_token'
).split(' ')

export const tokenizerTarget: Target<TokenizerFiles> = {
  name: 'tokenizer',
  inputs: fc.record({
    tokenizer: mutatedJson(goods, keys, values),
    config: mutatedJson([goodConfig], keys, values),
  }),
  open() {
    const folder = createFolder()
    return {
      check({ tokenizer: json, config }) {
        writeFileSync(join(folder.path, 'tokenizer.json'), json)
        writeFileSync(join(folder.path, 'tokenizer_config.json'), config)
        checkRefusal(loadCodes, () => {
          const tokenizer = loadTokenizer(folder.path)
          for (const text of texts) {
            const ids = tokenizer.encodePrompt(text, { addSpecialTokens: true })
            assert.ok(
              ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize),
            )
            tokenizer.decode(ids)
            for (const id of ids) tokenizer.tokenText(id)
          }
          loadChatTemplate(folder.path, tokenizer)
        })
      },
      close: folder.remove,
    }
  },
}

const pieces = [
  '{{ bos_token }}',
  '{% for m in messages %}',
  '{% endfor %}',
  "{{ m['role'] }}",
  '{{ m.content }}',
  "{% if m['role'] == 'user' %}",
  '{% else %}',
  '{% endif %}',
  '{{ messages[0].content | trim }}',
  "{% set ns = namespace(a='') %}",
  '{% set ns.a = ns.a + "x" %}',
  "{{ raise_exception('no') }}",
  "{{ m.content.split('</think>')[-1] }}",
  '{{ m.content[1:] }}',
  '{{ undefined_name.x }}',
  '{{ 1 / 0 }}',
  '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}',
  "{{ 'a' * 3 }}",
  '{{ [1, 2] | tojson }}',
  '{{ messages | length }}',
  '{{ messages | selectattr("role") | list }}',
  '{{ "x" | nofilter }}',
  '{% generation %}',
  '{% endgeneration %}',
  '{#',
  '#}',
  '{{',
  '}}',
  '{%',
  '%}',
  '{%- ',
  '-%}',
  '<think>\n',
  '{% set x = {"a": [1, {"b": none}]} %}{{ x.a[1].b }}',
  '{{ (lambda x: x)(1) }}',
  '{{ messages.constructor }}',
  "{{ ''.__class__ }}",
  '{{ constructor.constructor("return 1")() }}',
  '{% break %}',
  '{% call f() %}',
  '{{ loop.index0 }}',
  '{{ strftime_now("%Y") }}',
  '{{ -"a" }}',
  '{{ not messages }}',
  '{{ none + 1 }}',
]
const templates = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...pieces) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 5 }) },
  ),
  { maxLength: 12 },
)
const message = fc.record({
  role: fc.constantFrom('system', 'user', 'assistant'),
  content: fc.oneof(
    fc.constantFrom(...texts, '<｜User｜>', '</think>a'),
    fc.string({ unit: 'binary' }),
  ),
})

interface Rendering {
  readonly template: string
  readonly messages: readonly { role: 'system' | 'user' | 'assistant'; content: string }[]
}

export const templateTarget: Target<Rendering> = {
  name: 'template',
  inputs: fc.record({
    template: templates.map((parts) => parts.join('')),
    messages: fc.array(message as fc.Arbitrary<Rendering['messages'][number]>, { maxLength: 3 }),
  }),
  open() {
    const folder = createFolder()
    writeByteTokenizer(folder.path)
    const tokenizer = loadTokenizer(folder.path)
    return {
      check({ template: source, messages }) {
        writeFileSync(join(folder.path, 'chat_template.jinja'), source)
        checkRefusal(loadCodes, () => {
          const template = loadChatTemplate(folder.path, tokenizer)
          checkRefusal(['invalid_request'], () => {
            const prompt = template.encode(messages, { addGenerationPrompt: true })
            assert.ok(prompt.tokens.every(Number.isInteger))
          })
        })
      },
      close: folder.remove,
    }
  },
}

function readGood() {
  const folder = createFolder()
  writeByteTokenizer(folder.path)
  const read = (name: string) => JSON.parse(readFileSync(join(folder.path, name), 'utf8'))
  const files = { good: read('tokenizer.json'), config: read('tokenizer_config.json') }
  folder.remove()
  return files
}
