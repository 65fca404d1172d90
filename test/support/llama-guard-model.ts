// A checkpoint that answers as Llama Guard 3 does, with weights written by hand: "unsafe\nS1" where the
// conversation holds the letter y, else "safe". One layer whose attention counts that letter over all
// positions evenly; the output then goes by the last token and by that count.
//
//   dimension: 0 the letter   1 always   2…6 the last token's kind   7 the count

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseModelConfig } from '../../server/checkpoint/checkpoint-config.ts'
import { expectedTensors } from '../../server/checkpoint/checkpoint-tensors.ts'
import { markers, writeByteTokenizer } from './byte-tokenizer.ts'
import { randomArchitectures } from './random-checkpoint.ts'
import { encodeSafetensors, type TestTensor } from './tensor-files.ts'

const letter = 'y'.charCodeAt(0)
const lineBreak = '\n'.charCodeAt(0)
const [end, assistant, safe, unsafe, hazard] = [301, 303, 306, 307, 308]
/** Last token → what follows it, for those that the count does not decide. */
const next = new Map([
  [assistant, safe],
  [safe, end],
  [unsafe, lineBreak],
  [lineBreak, hazard],
  [hazard, end],
])
const count = 7

/** Raises an error unless user and assistant alternate, as Llama Guard's does. */
const template =
  "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}" +
  "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" +
  '<BEGIN CONVERSATION>\n' +
  "{% for m in messages %}{{ 'User: ' if m['role'] == 'user' else 'Agent: ' }}" +
  "{{ m['content'] }}\n{% endfor %}<END CONVERSATION>\n<｜Assistant｜>"

function configOf(): object {
  const { rope_scaling: _, ...llama } = randomArchitectures.llama
  return { ...llama, num_hidden_layers: 1, vocab_size: 320, max_position_embeddings: 2048 }
}

function weights(hidden: number): Record<string, (row: number, column: number) => number> {
  const kinds = [...next.keys()]
  const kindOf = (column: number) => kinds[column - 2]
  return {
    'model.embed_tokens.weight': (token, column) => {
      if (column === 0) return token === letter ? 1 : 0
      return column === 1 || kindOf(column) === token ? 1 : 0
    },
    'model.layers.0.self_attn.v_proj.weight': (row, column) => (row + column === 0 ? 1 : 0),
    'model.layers.0.self_attn.o_proj.weight': (row, column) =>
      row === count && column === 0 ? 100 : 0,
    'lm_head.weight': (token, column) => {
      const kind = kindOf(column)
      if (token === unsafe && column === count) return 8
      // Said once.
      if (token === unsafe && kind !== undefined && kind !== assistant) return -800
      if (kind === undefined || column >= hidden || next.get(kind) !== token) return 0
      return kind === assistant ? 4 : 80
    },
  }
}

export function writeLlamaGuard(dir: string): string {
  const added = [...markers, 'safe', 'unsafe', 'S1'].map((content, i) => ({
    id: 300 + i,
    content,
    special: i < markers.length,
    ...{ normalized: false, single_word: false, lstrip: false, rstrip: false },
  }))
  writeByteTokenizer(dir, { json: { added_tokens: added }, config: { chat_template: template } })
  const json = configOf()
  const config = parseModelConfig(json)
  const written = weights(config.hiddenSize)
  const tensors: Record<string, TestTensor> = {}
  for (const [name, shape] of expectedTensors(config)) {
    const [rows, columns = 1] = shape as readonly [number, number?]
    const valueAt = name.endsWith('norm.weight') ? () => 1 : (written[name] ?? (() => 0))
    const data = Float32Array.from({ length: rows * columns }, (_, i) =>
      valueAt(Math.floor(i / columns), i % columns),
    )
    tensors[name] = { shape, data }
  }
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'config.json'), JSON.stringify(json))
  writeFileSync(join(dir, 'generation_config.json'), JSON.stringify({ eos_token_id: end }))
  writeFileSync(join(dir, 'model.safetensors'), encodeSafetensors(tensors, { format: 'pt' }))
  return dir
}
