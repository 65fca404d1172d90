// PEFT folders: what is read from a right one, and which error each wrong one gets
// (bad-inputs 76–78, 80, 85–91).

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { findAdapterFolder } from '../server/adapters/adapter-folder.ts'
import { type LoadedAdapter, readPeftAdapter, UnservedModules } from '../server/adapters/peft.ts'
import type { RankOne } from '../server/contracts/adapter.ts'
import { type ErrorCode, ServerError } from '../server/errors.ts'
import { createTempFolder } from './support/temp-folder.ts'
import {
  encodeSafetensors,
  joinSafetensors,
  loraTensors,
  peftConfig,
  smallModel,
  type TestAdapter,
  upKey,
  upTensors,
  writeAdapter,
} from './support/tensor-files.ts'

const temp = createTempFolder()
let numRoots = 0

/** A fresh adapters root with one adapter folder in it. */
function createFolder(adapter: TestAdapter = {}, prepare?: (dir: string) => void) {
  const root = join(temp, `root-${++numRoots}`)
  mkdirSync(root)
  const dir = writeAdapter(root, 'x', adapter)
  prepare?.(dir)
  return root
}

async function read(root: string): Promise<LoadedAdapter> {
  const folder = findAdapterFolder(root, 'x')
  assert.ok(folder)
  return readPeftAdapter(folder, { model: smallModel, maxRank: 4, served: new Set(['up_proj']) })
}

const updateOf = (component: RankOne | undefined, layer: number) =>
  component?.find((update) => update.layer === layer)

test('a rank-2 adapter becomes two components with alpha/r folded into b', async () => {
  const tensors = upTensors({ rank: 2, layers: [0, 2] })
  const adapter = await read(createFolder({ config: { r: 2, lora_alpha: 8 }, tensors }))
  assert.equal(adapter.rank, 2)
  assert.equal(adapter.numLayers, 2)
  assert.deepEqual(adapter.targetModules, ['up_proj'])
  const stored = tensors[upKey(2, 'B')]!.data as Float32Array
  const rows = tensors[upKey(2, 'A')]!.data as Float32Array
  for (const k of [0, 1]) {
    const update = updateOf(adapter.components[k], 2)!
    assert.deepEqual([...update.a], [...rows.subarray(k * 8, (k + 1) * 8)])
    assert.deepEqual(
      [...update.b],
      Array.from({ length: 12 }, (_, i) => Math.fround(4 * stored[i * 2 + k]!)),
    )
    assert.equal(updateOf(adapter.components[k], 1), undefined)
  }
})

test('rank-stabilised LoRA scales by alpha over the root of r', async () => {
  const tensors = upTensors({ rank: 4, layers: [1] })
  const config = { r: 4, lora_alpha: 8, use_rslora: true }
  const [first] = (await read(createFolder({ config, tensors }))).components
  const stored = tensors[upKey(1, 'B')]!.data as Float32Array
  assert.equal(updateOf(first, 1)!.b[3], Math.fround(4 * stored[12]!))
})

test('rank_pattern and alpha_pattern apply to a name and to an ending, first match first', async () => {
  const tensors = { ...upTensors({ rank: 1, layers: [0] }), ...upTensors({ rank: 3, layers: [2] }) }
  const config = {
    r: 1,
    lora_alpha: 2,
    rank_pattern: { 'layers.2.mlp.up_proj': 3 },
    alpha_pattern: { 'model.layers.2.mlp.up_proj': 9, up_proj: 5 },
  }
  const adapter = await read(createFolder({ config, tensors }))
  assert.equal(adapter.rank, 3)
  const b = (layer: number) => tensors[upKey(layer, 'B')]!.data as Float32Array
  assert.equal(updateOf(adapter.components[0], 0)!.b[1], Math.fround(5 * b(0)[1]!))
  assert.equal(updateOf(adapter.components[0], 2)!.b[1], Math.fround(3 * b(2)[3]!))
  assert.equal(updateOf(adapter.components[2], 0), undefined)
})

test('keys without the base_model.model. prefix are read as the same adapter', async () => {
  const bare = Object.fromEntries(
    Object.entries(upTensors()).map(([key, tensor]) => [
      key.replace('base_model.model.', ''),
      tensor,
    ]),
  )
  const withPrefix = await read(createFolder())
  const without = await read(createFolder({ tensors: bare }))
  assert.deepEqual(without.components, withPrefix.components)
})

test('the digest changes with a weight and a setting, not with the order or spacing of keys', async () => {
  const digest = async (adapter: TestAdapter) => (await read(createFolder(adapter))).digest
  const first = await digest({})
  const reversed = Object.fromEntries(Object.entries(peftConfig).reverse())
  assert.match(first, /^[0-9a-f]{64}$/)
  assert.equal(await digest({ config: JSON.stringify(reversed, null, 4) }), first)
  assert.notEqual(await digest({ config: { lora_alpha: 17 } }), first)
  assert.notEqual(await digest({ tensors: upTensors({ seed: 2 }) }), first)
})

test('the manifest gives the default strength and is otherwise shown as it is', async () => {
  const manifest = { recommended_strength: 0.8, description: 'refuses', notes: { by: 'me' } }
  const adapter = await read(createFolder({ manifest }))
  assert.equal(adapter.manifest.defaultScale, 0.8)
  assert.deepEqual(adapter.manifest.content, manifest)
  const wrong = await read(createFolder({ manifest: { recommended_strength: 'lots' } }))
  assert.equal(wrong.manifest.defaultScale, 1)
  const list = await read(createFolder({ manifest: [1, 2] }))
  assert.equal(list.manifest.content, null)
})

test('modules that are not served are named', async () => {
  const tensors = loraTensors({
    rank: 1,
    layers: [0],
    modules: ['up_proj', 'down_proj'],
    seed: 1,
    model: smallModel,
  })
  await assert.rejects(read(createFolder({ tensors })), (error) => {
    assert.ok(error instanceof UnservedModules)
    assert.deepEqual([error.modules, error.served], [['down_proj'], ['up_proj']])
    return true
  })
})

// ---- Wrong folders ----

interface Wrong extends TestAdapter {
  readonly title: string
  readonly code: ErrorCode
  readonly says: RegExp
  /** Changes the folder after it was written. */
  readonly prepare?: (dir: string) => void
}

const remove = (name: string) => (dir: string) => unlinkSync(join(dir, name))
const safetensors = 'adapter_model.safetensors'
const withTensor = (key: string, shape: number[]) => ({
  ...upTensors(),
  [key]: { shape, data: new Float32Array(shape.reduce((x, y) => x * y, 1)) },
})
const withValue = (value: number) => {
  const tensors = upTensors()
  const data = tensors[upKey(1, 'B')]!.data as Float32Array
  data[5] = value
  return tensors
}
const f64 = Buffer.from(new Float64Array(8).fill(1e300).buffer)
const header = (value: unknown) => joinSafetensors(JSON.stringify(value), Buffer.alloc(8))
const entry = (begin: number, end: number, shape = [1]) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
})
const config = (title: string, config: TestAdapter['config'], says: RegExp): Wrong => ({
  title,
  config: config!,
  code: 'invalid_adapter',
  says,
})
const unsupported = (field: string, value: unknown): Wrong => ({
  title: `${field} ${JSON.stringify(value)}`,
  config: { [field]: value },
  code: 'unsupported_adapter',
  says: new RegExp(field),
})
const tensors = (
  title: string,
  tensors: TestAdapter['tensors'],
  says: RegExp,
  code: ErrorCode = 'invalid_adapter',
): Wrong => ({ title, tensors: tensors!, code, says })

const wrongFolders: readonly Wrong[] = [
  {
    title: 'no adapter_config.json',
    prepare: remove('adapter_config.json'),
    code: 'invalid_adapter',
    says: /adapter_config\.json is missing/,
  },
  {
    title: 'no tensors',
    prepare: remove(safetensors),
    code: 'invalid_adapter',
    says: /adapter_model\.safetensors is missing/,
  },
  {
    title: 'a pickle only',
    prepare: (dir) => renameSync(join(dir, safetensors), join(dir, 'adapter_model.bin')),
    code: 'unsupported_adapter',
    says: /pickle is not accepted/,
  },
  config('a config that is not JSON', '{', /not JSON/),
  config('a config that is empty', '', /not JSON/),
  config('a config that is a list', '[]', /not a JSON object/),
  config('a config that is null', 'null', /not a JSON object/),
  config('a config over 1 MB', `{"a":"${'x'.repeat(1_000_001)}"}`, /more than 1000000 bytes/),
  config('a key twice', '{"peft_type":"LORA","r":1,"r":4,"lora_alpha":1}', /"r" twice/),
  config('deep nesting', `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, /nested deeper/),
  config('r as a string', { r: '1' }, /r:/),
  config('r of zero', { r: 0 }, /r:/),
  config('r of a half', { r: 0.5 }, /r:/),
  config('no r', { r: undefined }, /r:/),
  config('no lora_alpha', { lora_alpha: null }, /lora_alpha/),
  {
    title: 'a rank over the limit',
    config: { r: 16 },
    code: 'adapter_rank_exceeded',
    says: /rank 16.*at most 4/,
  },
  {
    title: 'a rank over the limit in a pattern',
    config: { rank_pattern: { up_proj: 64 } },
    code: 'adapter_rank_exceeded',
    says: /rank 64.*at most 4/,
  },
  config('r=4 with tensors of rank 1', { r: 4 }, /rank 1; adapter_config\.json says r=4/),
  unsupported('peft_type', 'IA3'),
  unsupported('use_dora', true),
  unsupported('bias', 'all'),
  unsupported('bias', 'lora_only'),
  unsupported('lora_bias', true),
  unsupported('modules_to_save', ['lm_head']),
  unsupported('fan_in_fan_out', true),
  unsupported('use_qalora', true),
  unsupported('layer_replication', [[0, 1]]),
  unsupported('target_parameters', ['w']),
  unsupported('trainable_token_indices', [1]),
  unsupported('alora_invocation_tokens', [1]),
  unsupported('loftq_config', { loftq_bits: 4 }),
  unsupported('arrow_config', { k: 1 }),
  unsupported('a_feature_of_tomorrow', true),
  unsupported('init_lora_weights', 'pissa'),
  unsupported('init_lora_weights', 'pissa_niter_16'),
  unsupported('init_lora_weights', 'olora'),
  unsupported('rank_pattern', { '(a+)+$': 1 }),
  unsupported('alpha_pattern', { '^model.layers.0': 1 }),
  {
    ...unsupported('__proto__', 1),
    config: `${JSON.stringify(peftConfig).slice(0, -1)},"__proto__":{"a":1}}`,
  },
  tensors('lora_A alone', { [upKey(0, 'A')]: upTensors()[upKey(0, 'A')]! }, /lora_A.*no lora_B/),
  tensors('lora_B alone', { [upKey(0, 'B')]: upTensors()[upKey(0, 'B')]! }, /lora_B.*no lora_A/),
  tensors('a layer beyond the last', upTensors({ layers: [3] }), /layers\.3\.mlp.*layers 0 to 2/),
  tensors('an odd layer number', withTensor(upKey(0, 'A').replace('.0.', '.00.'), [1, 8]), /00/),
  tensors(
    'an unknown module',
    withTensor(upKey(0, 'A').replace('up_proj', 'side_proj'), [1, 8]),
    /side_proj.*does not have/,
  ),
  tensors(
    'up_proj in the wrong block',
    withTensor(upKey(0, 'A').replace('mlp', 'self_attn'), [1, 8]),
    /self_attn\.up_proj.*does not have/,
  ),
  tensors('a wrong width', withTensor(upKey(0, 'A'), [1, 9]), /\[1,9\]; this model needs \[1,8\]/),
  tensors('a flat matrix', withTensor(upKey(0, 'A'), [8]), /\[8\]; this model needs \[1,8\]/),
  tensors('rank-4 tensors for r=1', upTensors({ rank: 4 }), /rank 4; .*says r=1/),
  tensors('rank 0', withTensor(upKey(0, 'A'), [0, 8]), /rank 0; .*says r=1/),
  tensors('no tensors inside', {}, /holds no LoRA tensors/),
  tensors(
    'a foreign tensor',
    withTensor('classifier.weight', [2]),
    /classifier\.weight.*not a LoRA/,
  ),
  ...(
    [
      ['a saved lm_head', 'base_model.model.lm_head.weight', /lm_head/],
      ['a bare lm_head', 'lm_head.weight', /lm_head/],
      ['an adapted lm_head', 'base_model.model.lm_head.lora_A.weight', /lm_head/],
      ['saved embeddings', 'base_model.model.model.embed_tokens.weight', /embeddings/],
      ['a saved norm', 'base_model.model.model.layers.0.input_layernorm.weight', /norms/],
      ['the last norm', 'base_model.model.model.norm.weight', /norms/],
      ['a saved weight', 'base_model.model.model.layers.0.mlp.up_proj.weight', /full weights/],
      [
        'a base weight beside its update',
        'base_model.model.model.layers.0.mlp.up_proj.base_layer.weight',
        /full weights/,
      ],
    ] as const
  ).map(([title, key, says]) =>
    tensors(title, withTensor(key, [2, 2]), says, 'unsupported_adapter'),
  ),
  tensors('a tensor called __proto__', withTensor('__proto__x', [1]), /not a LoRA/),
  tensors(
    'a DoRA vector',
    withTensor(upKey(0, 'A').replace('lora_A.weight', 'lora_magnitude_vector'), [12]),
    /DoRA/,
    'unsupported_adapter',
  ),
  tensors(
    'a LoRA bias',
    withTensor(upKey(0, 'B').replace('.weight', '.bias'), [12]),
    /biases/,
    'unsupported_adapter',
  ),
  tensors(
    'an adapted embedding',
    withTensor('base_model.model.model.embed_tokens.lora_embedding_A', [1, 8]),
    /embeddings/,
    'unsupported_adapter',
  ),
  tensors(
    'one layer given with and without prefix',
    withTensor(upKey(0, 'A').replace('base_model.model.', ''), [1, 8]),
    /twice/,
  ),
  tensors('NaN', withValue(Number.NaN), /NaN or infinite/),
  tensors('infinity', withValue(Number.NEGATIVE_INFINITY), /NaN or infinite/),
  tensors('values that overflow when scaled', withValue(3e38), /NaN or infinite/),
  tensors(
    'float64 beyond float32',
    { ...upTensors(), [upKey(0, 'A')]: { shape: [1, 8], dtype: 'F64', data: f64 } },
    /NaN or infinite/,
  ),
  tensors(
    'integers',
    { ...upTensors(), [upKey(0, 'A')]: { shape: [1, 8], dtype: 'I32', data: Buffer.alloc(32) } },
    /I32/,
    'unsupported_adapter',
  ),
  tensors('a file of 3 bytes', Buffer.alloc(3), /fewer than 8/),
  tensors('a header of 2^63 bytes', joinSafetensors('{}', Buffer.alloc(0), 2n ** 63n), /at most/),
  tensors('a header over 100 MB', joinSafetensors('{}', Buffer.alloc(0), 100_000_001n), /at most/),
  tensors('a header longer than the file', joinSafetensors('{}', Buffer.alloc(0), 99n), /only/),
  tensors(
    'trailing bytes',
    Buffer.concat([encodeSafetensors(upTensors()), Buffer.alloc(1)]),
    /follow/,
  ),
  tensors('a hole', header({ a: entry(0, 4), b: entry(5, 9) }), /hole/),
  tensors('an overlap', header({ a: entry(0, 4), b: entry(2, 6) }), /overlaps/),
  tensors('out of the file', header({ a: entry(0, 4), b: entry(4, 12, [2]) }), /outside the file/),
  tensors('an end before its begin', header({ a: entry(4, 0) }), /before their begin/),
  tensors('sizes that overflow', header({ a: entry(0, 8, [2 ** 40, 2 ** 40]) }), /overflow/),
  tensors('an unknown dtype', header({ a: { ...entry(0, 8), dtype: 'F7' } }), /unknown dtype/),
  tensors(
    'a tensor twice',
    joinSafetensors(
      `{"a":${JSON.stringify(entry(0, 4))},"a":${JSON.stringify(entry(4, 8))}}`,
      Buffer.alloc(8),
    ),
    /"a" twice/,
  ),
  {
    title: 'a folder in place of a file',
    prepare: (dir) => {
      rmSync(join(dir, safetensors))
      mkdirSync(join(dir, safetensors))
    },
    code: 'invalid_adapter',
    says: /not a regular file/,
  },
  {
    title: 'a named pipe in place of a file',
    prepare: (dir) => {
      rmSync(join(dir, safetensors))
      execFileSync('mkfifo', [join(dir, safetensors)])
    },
    code: 'invalid_adapter',
    says: /not a regular file/,
  },
  {
    title: 'a link to a file outside',
    prepare: (dir) => {
      const outside = join(temp, 'outside.safetensors')
      writeFileSync(outside, encodeSafetensors(upTensors()))
      rmSync(join(dir, safetensors))
      symlinkSync(outside, join(dir, safetensors))
    },
    code: 'invalid_adapter',
    says: /outside the adapters folder/,
  },
]

for (const { title, code, says, prepare, ...adapter } of wrongFolders) {
  test(`refused: ${title}`, async () => {
    const root = createFolder(adapter, prepare)
    const error = await read(root).then(
      () => assert.fail('it was accepted'),
      (reason: unknown) => reason,
    )
    assert.ok(error instanceof ServerError, String(error))
    assert.equal(error.code, code, error.message)
    assert.match(error.message, says)
    assert.ok(!error.message.includes(temp), 'a path is in the message')
    assert.ok(error.message.length < 600)
  })
}

test('a folder that is a link to the outside is refused', () => {
  const root = createFolder()
  const outside = writeAdapter(temp, 'outside-folder')
  symlinkSync(outside, join(root, 'link'))
  assert.throws(() => findAdapterFolder(root, 'link'), { code: 'invalid_adapter' })
})

test('a folder that is a link inside the root is followed', async () => {
  const root = createFolder()
  symlinkSync(join(root, 'x'), join(root, 'alias'))
  assert.ok(findAdapterFolder(root, 'alias'))
})
