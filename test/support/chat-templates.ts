// Chat templates that behave as those of published models are documented to, written for tests. `marks`:
// whether <think> and </think> are tokens of their tokenizers.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { markers } from './byte-tokenizer.ts'
import { root } from './root.ts'

export interface TemplateLike {
  readonly name: string
  readonly source: string
  readonly marks: boolean
  /** What the prompt ends with, as the template is asked for nothing, for a thought, for none. */
  readonly ends: { readonly plain: string; readonly on: string; readonly off: string }
}

/** Reads the answer of an earlier turn without its thought. */
const answerOnly =
  "{% set text = m['content'] %}{% if '</think>' in text %}" +
  "{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}"

function r1Like(opening: string): string {
  return (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}" +
    "{% elif m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}" +
    `{% else %}${answerOnly}{{ '<｜Assistant｜>' + text + eos_token }}{% endif %}{% endfor %}` +
    `{% if add_generation_prompt %}{{ '<｜Assistant｜>${opening}' }}{% endif %}`
  )
}

const chatMlTurn = "{{ '<|im_start|>' + m['role'] + '\\n' + text + '<|im_end|>\\n' }}"

const qwen3Like =
  "{% for m in messages %}{% if m['role'] == 'assistant' %}" +
  `${answerOnly}${chatMlTurn}{% else %}{% set text = m['content'] %}${chatMlTurn}{% endif %}` +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}" +
  '{% if enable_thinking is defined and enable_thinking is false %}' +
  "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"

const smolLm2Like =
  "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}" +
  "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}" +
  `{% set text = m['content'] %}${chatMlTurn}{% endfor %}` +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

const header = (role: string) => `'<|start_header_id|>' + ${role} + '<|end_header_id|>\\n\\n'`
const nemotronLike =
  `{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}${answerOnly}` +
  "{% else %}{% set text = m['content'] %}{% endif %}" +
  `{{ ${header("m['role']")} + text.strip() + '<|eot_id|>' }}{% endfor %}` +
  `{% if add_generation_prompt %}{{ ${header("'assistant'")} }}{% endif %}`

const emptyThought = '<think>\n\n</think>\n\n'

function always(end: string) {
  return { plain: end, on: end, off: end + emptyThought }
}

const opened = {
  plain: '<｜Assistant｜><think>\n',
  on: '<｜Assistant｜><think>\n',
  off: `<｜Assistant｜>${emptyThought}`,
}
const chatMl = '<|im_start|>assistant\n'

export const templatesLike: readonly TemplateLike[] = [
  { name: 'R1-Distill-old-like', source: r1Like(''), marks: true, ends: always('<｜Assistant｜>') },
  { name: 'R1-Distill-new-like', source: r1Like('<think>\\n'), marks: true, ends: opened },
  { name: 'Qwen3-like', source: qwen3Like, marks: true, ends: always(chatMl) },
  {
    name: 'Nemotron-like',
    source: nemotronLike,
    marks: false,
    ends: always('<|start_header_id|>assistant<|end_header_id|>\n\n'),
  },
  {
    name: 'SmolLM2-like',
    source: smolLm2Like,
    marks: false,
    ends: { plain: chatMl, on: chatMl, off: chatMl },
  },
  {
    name: 'the embedded model’s',
    source: readFileSync(join(root, 'models', 'tiny-reasoner', 'chat_template.jinja'), 'utf8'),
    marks: true,
    ends: opened,
  },
]

/** tokenizer.json's added tokens for it. */
export function addedTokens({ marks }: Pick<TemplateLike, 'marks'>) {
  const texts = [...markers, '<|im_start|>', '<|im_end|>', '<|start_header_id|>']
  return [...texts, '<|end_header_id|>', '<|eot_id|>']
    .map((content, i) => ({ id: 300 + i, content, special: i < 2, normalized: false }))
    .filter(({ content }) => marks || !content.includes('think'))
}
