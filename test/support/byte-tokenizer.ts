// A tokenizer.json small enough to read: 256 bytes, a few merges and R1's markers.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const markers = [
  '<｜begin▁of▁sentence｜>',
  '<｜end▁of▁sentence｜>',
  '<｜User｜>',
  '<｜Assistant｜>',
  '<think>',
  '</think>',
]

/** R1's template, without its tool calls. */
const r1Template =
  "{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}" +
  "{% set ns.system = m['content'] %}{% endif %}{% endfor %}{{ bos_token }}{{ ns.system }}" +
  "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}" +
  "{% elif m['role'] == 'assistant' %}{% set text = m['content'] %}{% if '</think>' in text %}" +
  "{% set text = text.split('</think>')[-1] %}{% endif %}" +
  "{{ '<｜Assistant｜>' + text + eos_token }}{% endif %}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"

export interface ByteTokenizerOptions {
  /** Replaces parts of tokenizer.json. */
  readonly json?: Readonly<Record<string, unknown>>
  /** Replaces parts of tokenizer_config.json. */
  readonly config?: Readonly<Record<string, unknown>>
}

export function writeByteTokenizer(dir: string, { json, config }: ByteTokenizerOptions = {}) {
  const vocab: Record<string, number> = {}
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const prints = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
    vocab[String.fromCharCode(prints ? byte : next++)] = byte
  }
  const merges = [
    ['a', 'b'],
    ['ab', 'c'],
    ['Ġ', 'Ġ'],
    ['ĠĠ', 'ĠĠ'],
  ]
  for (const [left, right] of merges) vocab[`${left}${right}`] = Object.keys(vocab).length
  const added = markers.map((content, i) => ({
    id: 300 + i,
    content,
    special: i < 2,
    normalized: false,
    single_word: false,
    lstrip: false,
    rstrip: false,
  }))
  const tokenizer = {
    version: '1.0',
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    post_processor: { type: 'ByteLevel', trim_offsets: true },
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab, merges, unk_token: null, byte_fallback: false },
    ...json,
  }
  const tokenizerConfig = {
    bos_token: markers[0],
    eos_token: { content: markers[1] },
    chat_template: r1Template,
    ...config,
  }
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'tokenizer.json'), JSON.stringify(tokenizer))
  writeFileSync(join(dir, 'tokenizer_config.json'), JSON.stringify(tokenizerConfig))
}
