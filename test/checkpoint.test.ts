// Checkpoints: what config.json means in each of its layouts, and one clear line for what is wrong.

import assert from 'node:assert/strict'
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import { parseModelConfig } from '../server/checkpoint/checkpoint-config.ts'
import { expectedTensors } from '../server/checkpoint/checkpoint-tensors.ts'
import { parseGenerationDefaults } from '../server/checkpoint/generation-defaults.ts'
import type { ModelConfig } from '../server/contracts/checkpoint.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { encodeSafetensors, pseudoRandom, type TestTensor } from './support/tensor-files.ts'

const temp = createTempFolder()
const qwen = {
  architectures: ['Qwen2ForCausalLM'],
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 16,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
}
const llama = { ...qwen, architectures: ['LlamaForCausalLM'] }
const llama3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
}
const llama3Scaling = {
  kind: 'llama3',
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPosition: 8192,
}

test('Qwen2: biases on q, k and v; sizes as given; transformers’ defaults otherwise', () => {
  assert.deepEqual(parseModelConfig(qwen), {
    architecture: 'Qwen2ForCausalLM',
    hiddenSize: 8,
    intermediateSize: 12,
    numLayers: 2,
    numHeads: 2,
    numKvHeads: 1,
    headDim: 4,
    vocabSize: 16,
    maxPosition: 64,
    ropeTheta: 10000,
    ropeScaling: null,
    rmsNormEps: 1e-5,
    tieWordEmbeddings: true,
    qkvBias: true,
    outputBias: false,
    mlpBias: false,
  } satisfies ModelConfig)
})

test('Llama: biases, head_dim and key-value heads follow the config', () => {
  const config = parseModelConfig({
    ...llama,
    attention_bias: true,
    mlp_bias: true,
    head_dim: 6,
    num_key_value_heads: undefined,
  })
  assert.deepEqual(
    [config.qkvBias, config.outputBias, config.mlpBias, config.headDim, config.numKvHeads],
    [true, true, true, 6, 2],
  )
  assert.equal(parseModelConfig(llama).qkvBias, false)
})

test('rope is read from the older layout and from transformers 5’s', () => {
  const older = parseModelConfig({ ...llama, rope_theta: 5e5, rope_scaling: llama3 })
  const newer = parseModelConfig({ ...llama, rope_parameters: { ...llama3, rope_theta: 5e5 } })
  assert.deepEqual([older.ropeTheta, older.ropeScaling], [5e5, llama3Scaling])
  assert.deepEqual(newer, older)
  const plain = parseModelConfig({ ...qwen, rope_theta: 1e6, rope_scaling: null })
  assert.deepEqual([plain.ropeTheta, plain.ropeScaling], [1e6, null])
  const named = parseModelConfig({
    ...qwen,
    rope_parameters: { rope_type: 'default', rope_theta: 7 },
  })
  assert.equal(named.ropeTheta, 7)
})

test('linear and yarn rope: what is left out is filled as transformers fills it', () => {
  const scalingOf = (rope: object, others = {}) =>
    parseModelConfig({ ...llama, ...others, rope_parameters: rope }).ropeScaling
  assert.deepEqual(scalingOf({ rope_type: 'linear', factor: 2 }), { kind: 'linear', factor: 2 })
  const plain = {
    kind: 'yarn',
    factor: 4,
    attentionFactor: 0.1 * Math.log(4) + 1,
    betaFast: 32,
    betaSlow: 1,
    originalMaxPosition: 64,
    truncate: true,
  }
  const yarn = { rope_type: 'yarn', factor: 4 }
  assert.deepEqual(scalingOf(yarn), plain)
  assert.deepEqual(scalingOf({ ...yarn, beta_fast: 0, beta_slow: null, mscale: 1 }), plain)
  assert.deepEqual(scalingOf({ ...yarn, attention_factor: 0 }), { ...plain, attentionFactor: 0 })
  assert.deepEqual(scalingOf({ ...yarn, mscale: 1, mscale_all_dim: 1 }), {
    ...plain,
    attentionFactor: 1,
  })
  const original = { original_max_position_embeddings: 16 }
  assert.deepEqual(scalingOf({ ...yarn, ...original, truncate: false }), {
    ...plain,
    originalMaxPosition: 16,
    truncate: false,
  })
  // The top level's wins; a factor of null is the ratio of the two lengths.
  const ratio = scalingOf(
    { rope_type: 'yarn', factor: null, ...original },
    {
      original_max_position_embeddings: 8,
    },
  )
  assert.deepEqual(ratio, {
    ...plain,
    factor: 8,
    originalMaxPosition: 8,
    attentionFactor: 0.1 * Math.log(8) + 1,
  })
})

test('yarn lengthens the context of a checkpoint that still tells its trained one', () => {
  const rope_scaling = { type: 'yarn', factor: 4, original_max_position_embeddings: 64 }
  assert.equal(parseModelConfig({ ...qwen, rope_scaling }).maxPosition, 256)
  const told = { ...qwen, max_position_embeddings: 512, rope_scaling }
  assert.equal(parseModelConfig(told).maxPosition, 512)
})

test('a sliding window is refused only where it would hide something', () => {
  const windowed = { ...qwen, use_sliding_window: true, sliding_window: 32 }
  assert.ok(parseModelConfig({ ...windowed, max_window_layers: 2 }))
  assert.ok(parseModelConfig({ ...windowed, use_sliding_window: false, max_window_layers: 0 }))
  assert.ok(parseModelConfig({ ...windowed, sliding_window: 64, max_window_layers: 0 }))
  assert.ok(parseModelConfig({ ...qwen, sliding_window: null, layer_types: ['full_attention'] }))
})

const unsupported: readonly (readonly [string, object, RegExp])[] = [
  ['another architecture', { ...qwen, architectures: ['MistralForCausalLM'] }, /Mistral/],
  ['another activation', { ...qwen, hidden_act: 'gelu' }, /hidden_act is "gelu"/],
  ['quantised weights', { ...qwen, quantization_config: { bits: 4 } }, /quantization_config/],
  ['half a rotation', { ...llama, partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
  [
    'rope per kind of layer',
    { ...llama, rope_parameters: { full_attention: {} } },
    /full_attention/,
  ],
  [
    'a window',
    { ...qwen, use_sliding_window: true, sliding_window: 32, max_window_layers: 1 },
    /use_sliding_window/,
  ],
  [
    'a windowed layer',
    { ...qwen, sliding_window: 32, layer_types: ['full_attention', 'sliding_attention'] },
    /use_sliding_window/,
  ],
  ...['dynamic', 'longrope', 'su', 'mrope', 'proportional'].flatMap((kind) => [
    [
      `${kind} rope`,
      { ...llama, rope_scaling: { type: kind, factor: 2 } },
      /rope_scaling\.rope_type/,
    ] as const,
    [
      `${kind} rope, newer`,
      { ...llama, rope_parameters: { rope_type: kind, factor: 2 } },
      /rope_parameters\.rope_type/,
    ] as const,
  ]),
]
for (const [title, config, says] of unsupported) {
  test(`not supported: ${title}`, () => {
    assert.throws(() => parseModelConfig(config), { code: 'unsupported_checkpoint', message: says })
  })
}

const invalid: readonly (readonly [string, unknown, RegExp])[] = [
  ['a list', [], /config\.json/],
  ['a size as text', { ...qwen, hidden_size: '8' }, /hidden_size/],
  ['no layers', { ...qwen, num_hidden_layers: 0 }, /num_hidden_layers/],
  ['heads that do not divide', { ...qwen, num_attention_heads: 3 }, /no multiple/],
  ['groups that do not divide', { ...qwen, num_key_value_heads: 3, hidden_size: 8 }, /no multiple/],
  ['an odd head', { ...llama, head_dim: 3 }, /odd/],
  ['linear rope without a factor', { ...llama, rope_scaling: { type: 'linear' } }, /factor/],
  ['yarn rope without a factor', { ...llama, rope_scaling: { type: 'yarn' } }, /factor/],
  ['a factor as text', { ...llama, rope_scaling: { type: 'linear', factor: '2' } }, /factor/],
  [
    'llama3 rope without a factor',
    { ...llama, rope_scaling: { ...llama3, factor: null } },
    /factor is missing/,
  ],
]
for (const [title, config, says] of invalid) {
  test(`invalid: ${title}`, () => {
    assert.throws(() => parseModelConfig(config), { code: 'invalid_checkpoint', message: says })
  })
}

const neutral = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
}

test('generation defaults: every setting that a request may give', () => {
  const r1 = { do_sample: true, temperature: 0.6, top_p: 0.95, eos_token_id: [1, 2, 1] }
  assert.deepEqual(parseGenerationDefaults(r1, qwen), {
    eosTokenIds: [1, 2],
    sampling: { ...neutral, temperature: 0.6, topP: 0.95 },
    unsupported: [],
  })
  const more = { top_k: 20, min_p: 0.1, repetition_penalty: 1.05, presence_penalty: 1.5 }
  assert.deepEqual(parseGenerationDefaults({ ...more, frequency_penalty: -1 }, qwen).sampling, {
    ...neutral,
    topK: 20,
    minP: 0.1,
    repetitionPenalty: 1.05,
    presencePenalty: 1.5,
    frequencyPenalty: -1,
  })
  // What a request may say, a checkpoint may: −1 keeps every token, top_p 0 the likeliest.
  assert.equal(parseGenerationDefaults({ top_k: -1 }, qwen).sampling.topK, 0)
  assert.equal(parseGenerationDefaults({ top_p: 0 }, qwen).sampling.topP, 0)
})

test('generation defaults: do_sample false is greedy, and keeps its penalties', () => {
  const greedy = { do_sample: false, temperature: 0.6, top_p: 0.9, top_k: 20, min_p: 0.1 }
  const { sampling } = parseGenerationDefaults({ ...greedy, repetition_penalty: 1.1 }, qwen)
  assert.deepEqual(sampling, { ...neutral, temperature: 0, repetitionPenalty: 1.1 })
})

test('generation defaults: end tokens are those of both files', () => {
  const eosOf = (generation: unknown, config: unknown) =>
    parseGenerationDefaults(generation === null ? null : { eos_token_id: generation }, {
      ...qwen,
      eos_token_id: config,
    }).eosTokenIds
  assert.deepEqual(eosOf([1, 2], 9), [1, 2, 9])
  assert.deepEqual(eosOf(3, [3, 4]), [3, 4])
  assert.deepEqual(eosOf(null, 9), [9])
  assert.deepEqual(eosOf(3, null), [3])
  assert.deepEqual(eosOf(null, null), [])
})

test('generation defaults: what is not applied is named, unless it changes nothing', () => {
  const neutralOnes = { typical_p: 1, num_beams: 1, no_repeat_ngram_size: 0, bad_words_ids: [] }
  assert.deepEqual(parseGenerationDefaults(neutralOnes, qwen).unsupported, [])
  const active = { typical_p: 0.9, num_beams: 4, max_new_tokens: 100, suppress_tokens: [1] }
  assert.deepEqual(parseGenerationDefaults(active, qwen).unsupported, Object.keys(active))
})

// ---- Folders ----

let numFolders = 0

function tensorsOf(config: object): Record<string, TestTensor> {
  let seed = 0
  return Object.fromEntries(
    [...expectedTensors(parseModelConfig(config))].map(([name, shape]) => [
      name,
      {
        shape,
        data: pseudoRandom(
          shape.reduce((x, y) => x * y),
          ++seed,
        ),
      },
    ]),
  )
}

function createFolder(config: object, tensors = tensorsOf(config)): string {
  const dir = join(temp, `checkpoint-${++numFolders}`)
  mkdirSync(dir)
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config))
  writeFileSync(join(dir, 'model.safetensors'), encodeSafetensors(tensors))
  return dir
}

/** The same weights in two files with an index. */
function shard(dir: string, tensors: Record<string, TestTensor>, weightMap = {}): void {
  const names = Object.keys(tensors)
  const map: Record<string, string> = {}
  for (const part of [1, 2]) {
    const own = names.filter((_, i) => i % 2 === part - 1)
    const file = `model-0000${part}-of-00002.safetensors`
    for (const name of own) map[name] = file
    const picked = Object.fromEntries(own.map((name) => [name, tensors[name]!]))
    writeFileSync(join(dir, file), encodeSafetensors(picked))
  }
  rmSync(join(dir, 'model.safetensors'), { force: true })
  const index = { metadata: {}, weight_map: { ...map, ...weightMap } }
  writeFileSync(join(dir, 'model.safetensors.index.json'), JSON.stringify(index))
}

test('a checkpoint in one file and the same in shards read alike', () => {
  const tensors = tensorsOf({ ...qwen, tie_word_embeddings: false })
  const dir = createFolder({ ...qwen, tie_word_embeddings: false }, tensors)
  const one = openCheckpoint(dir)
  const values = [...one.tensors.read('lm_head.weight')]
  assert.deepEqual(values, [...(tensors['lm_head.weight']!.data as Float32Array)])
  assert.deepEqual(one.tensors.shape('lm_head.weight'), [16, 8])
  assert.equal(one.files.length, 2)
  assert.ok(Math.abs(one.created - Date.now() / 1000) < 60)
  one.close()
  shard(dir, tensors)
  const many = openCheckpoint(dir)
  assert.deepEqual([...many.tensors.read('lm_head.weight')], values)
  assert.equal(many.numParameters, one.numParameters)
  assert.equal(many.files.length, 4)
  many.close()
})

test('tied embeddings need no lm_head; harmless extras are ignored', () => {
  const tensors = tensorsOf(qwen)
  assert.equal(tensors['lm_head.weight'], undefined)
  tensors['model.layers.0.self_attn.rotary_emb.inv_freq'] = {
    shape: [2],
    data: new Float32Array(2),
  }
  const checkpoint = openCheckpoint(createFolder(qwen, tensors))
  assert.equal(checkpoint.tensors.has('lm_head.weight'), false)
  checkpoint.close()
})

test('every wrong tensor is named with both shapes', () => {
  const tensors = tensorsOf(qwen)
  tensors['model.norm.weight'] = { shape: [9], data: new Float32Array(9) }
  delete tensors['model.layers.1.mlp.up_proj.weight']
  assert.throws(() => openCheckpoint(createFolder(qwen, tensors)), {
    code: 'invalid_checkpoint',
    message: /up_proj\.weight is missing; model\.norm\.weight is \[9\], config\.json says \[8\]/,
  })
  const integers = tensorsOf(qwen)
  integers['model.norm.weight'] = { shape: [8], dtype: 'I32', data: Buffer.alloc(32) }
  assert.throws(() => openCheckpoint(createFolder(qwen, integers)), {
    code: 'unsupported_checkpoint',
    message: /model\.norm\.weight is I32/,
  })
})

test('a tensor that the graph would leave out is refused', () => {
  const tensors = tensorsOf(qwen)
  tensors['model.layers.0.self_attn.q_norm.weight'] = { shape: [4], data: new Float32Array(4) }
  assert.throws(() => openCheckpoint(createFolder(qwen, tensors)), {
    code: 'unsupported_checkpoint',
    message: /q_norm/,
  })
})

test('an index that lies, or leads out of the folder, is refused', () => {
  const refuse = (weightMap: object, says: RegExp) => {
    const dir = createFolder(qwen)
    shard(dir, tensorsOf(qwen), weightMap)
    assert.throws(() => openCheckpoint(dir), { code: 'invalid_checkpoint', message: says })
  }
  refuse({ x: '../x.safetensors' }, /beside the index/)
  refuse({ x: '/etc/passwd' }, /beside the index/)
  refuse({ x: 5 }, /beside the index/)
  refuse({ x: 'model-9.safetensors' }, /model-9\.safetensors: it is missing/)
  refuse({ x: 'model-00001-of-00002.safetensors' }, /does not hold "x"/)
})

test('what is missing is said in one line', () => {
  const dir = createFolder(qwen)
  renameSync(join(dir, 'model.safetensors'), join(dir, 'pytorch_model.bin'))
  assert.throws(() => openCheckpoint(dir), { code: 'unsupported_checkpoint', message: /pickle/ })
  assert.throws(() => openCheckpoint(join(temp, 'nowhere')), /config\.json is missing/)
  writeFileSync(join(dir, 'config.json'), '{')
  assert.throws(() => openCheckpoint(dir), /config\.json: it is not JSON/)
})

// ---- Downloads that went wrong ----

const firstShard = 'model-00001-of-00002.safetensors'
const secondShard = 'model-00002-of-00002.safetensors'
const indexFile = 'model.safetensors.index.json'
const cut = (path: string, bytes: number) => truncateSync(path, statSync(path).size - bytes)

const brokenFiles: readonly (readonly [string, RegExp, (dir: string) => void])[] = [
  [
    'a file that ends early',
    /model\.safetensors: .*ends outside/,
    (dir) => cut(join(dir, 'model.safetensors'), 4),
  ],
  [
    'an empty file',
    /model\.safetensors: the file has 0 bytes/,
    (dir) => truncateSync(join(dir, 'model.safetensors')),
  ],
  [
    'a page of HTML for a file',
    /model\.safetensors: the header says it has \d+ bytes/,
    (dir) => writeFileSync(join(dir, 'model.safetensors'), '<!doctype html><html>Not found</html>'),
  ],
  [
    'a pointer of Git LFS for a file',
    /model\.safetensors: the header says it has \d+ bytes/,
    (dir) =>
      writeFileSync(join(dir, 'model.safetensors'), 'version https://git-lfs.github.com/spec/v1\n'),
  ],
  [
    'bytes after the last tensor',
    /model\.safetensors: 3 bytes follow the last tensor/,
    (dir) => appendFileSync(join(dir, 'model.safetensors'), 'end'),
  ],
]
for (const [title, says, damage] of brokenFiles) {
  test(`refused: ${title}`, () => {
    const dir = createFolder(qwen)
    damage(dir)
    assert.throws(() => openCheckpoint(dir), { code: 'invalid_checkpoint', message: says })
  })
}

const brokenShards: readonly (readonly [string, RegExp, (dir: string) => void])[] = [
  [
    'a shard that ends early',
    /00002-of-00002\.safetensors: .*ends outside/,
    (dir) => cut(join(dir, secondShard), 4),
  ],
  [
    'a shard that is missing',
    /index\.json names model-00002.*: it is missing/,
    (dir) => rmSync(join(dir, secondShard)),
  ],
  [
    'shards that changed places',
    /index\.json: model-0000\d.* does not hold/,
    (dir) => {
      renameSync(join(dir, firstShard), join(dir, 'other'))
      renameSync(join(dir, secondShard), join(dir, firstShard))
      renameSync(join(dir, 'other'), join(dir, secondShard))
    },
  ],
  [
    'a shard that is a folder',
    /00001-of-00002\.safetensors: it is not a regular file/,
    (dir) => {
      rmSync(join(dir, firstShard))
      mkdirSync(join(dir, firstShard))
    },
  ],
  [
    'an index that is not JSON',
    /index\.json: it is not JSON/,
    (dir) => cut(join(dir, indexFile), 4),
  ],
  [
    'an index without a map',
    /index\.json: weight_map is missing/,
    (dir) => writeFileSync(join(dir, indexFile), '{"metadata": {}}'),
  ],
  [
    'an index that leaves a tensor out',
    /Weights: model\.norm\.weight is missing/,
    (dir) => {
      const index = JSON.parse(readFileSync(join(dir, indexFile), 'utf8'))
      delete index.weight_map['model.norm.weight']
      writeFileSync(join(dir, indexFile), JSON.stringify(index))
    },
  ],
]
for (const [title, says, damage] of brokenShards) {
  test(`refused: ${title}`, () => {
    const dir = createFolder(qwen)
    shard(dir, tensorsOf(qwen))
    damage(dir)
    assert.throws(() => openCheckpoint(dir), { code: 'invalid_checkpoint', message: says })
  })
}

const disagreements: readonly (readonly [string, RegExp, object])[] = [
  [
    'another vocabulary',
    /embed_tokens\.weight is \[16,8\], config\.json says \[17,8\]/,
    { vocab_size: 17 },
  ],
  [
    'a layer too many',
    /layers\.2\.input_layernorm\.weight is missing; .*; and \d+ more/,
    { num_hidden_layers: 3 },
  ],
  ['a layer too few', /"model\.layers\.1\..*" is no tensor of/, { num_hidden_layers: 1 }],
  ['untied embeddings', /lm_head\.weight is missing/, { tie_word_embeddings: false }],
  [
    'as many key heads as heads',
    /k_proj\.weight is \[4,8\], config\.json says \[8,8\]/,
    { num_key_value_heads: 2 },
  ],
  [
    'Llama without biases',
    /q_proj\.bias" is no tensor of LlamaForCausalLM/,
    { architectures: ['LlamaForCausalLM'] },
  ],
]
for (const [title, says, changes] of disagreements) {
  test(`config.json and tensors disagree: ${title}`, () => {
    const dir = createFolder({ ...qwen, ...changes }, tensorsOf(qwen))
    assert.throws(() => openCheckpoint(dir), { message: says })
  })
}
