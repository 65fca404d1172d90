// Conversions: found again by content, checked before use, never left half done.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { describe, it, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { cpuTarget, type WeightFormat } from '../server/contracts/checkpoint.ts'
import { explainDiskError } from '../server/model/cache-disk.ts'
import { openCheckpoint } from '../server/model/checkpoint.ts'
import { parseModelConfig } from '../server/model/checkpoint-config.ts'
import { expectedTensors } from '../server/model/checkpoint-tensors.ts'
import { type ConvertOptions, convertCheckpoint, shareWeights } from '../server/model/convert.ts'
import type { ConvertPart } from '../server/model/convert-part.ts'
import { partialName } from '../server/model/partial-folder.ts'
import { runWorkers } from '../server/model/worker.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { encodeSafetensors, pseudoRandom, type TestTensor } from './support/tensor-files.ts'

const temp = createTempFolder()
const newFolder = () => mkdtempSync(join(temp, 'x-'))

const config = {
  architectures: ['Qwen2ForCausalLM'],
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 64,
  max_position_embeddings: 64,
  tie_word_embeddings: true,
}
const int4: WeightFormat = {
  kind: 'quantized',
  bits: 4,
  block: 32,
  zeroPoints: true,
  searchScales: true,
}

function randomTensors(): Record<string, TestTensor & { readonly data: Float32Array }> {
  let seed = 0
  return Object.fromEntries(
    [...expectedTensors(parseModelConfig(config))].map(([name, shape]) => {
      const count = shape.reduce((x, y) => x * y)
      return [name, { shape, data: pseudoRandom(count, ++seed) }]
    }),
  )
}

function createCheckpoint(tensors = randomTensors(), changes: object = {}): string {
  const dir = newFolder()
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ ...config, ...changes }))
  writeFileSync(join(dir, 'model.safetensors'), encodeSafetensors(tensors))
  return dir
}

/** Converts and tells what was done on the way. */
async function convert(dir: string, cacheDir: string, changes: Partial<ConvertOptions> = {}) {
  const done = new Set<string>()
  const notices: string[] = []
  const checkpoint = openCheckpoint(dir)
  try {
    const { graphPath: path, baseDigest } = await convertCheckpoint({
      dir,
      checkpoint,
      maxContext: 64,
      format: int4,
      sites: ['up_proj'],
      cacheDir,
      onProgress: (what) => done.add(what),
      onNotice: (message) => notices.push(message),
      ...changes,
    })
    return { path, baseDigest, folder: dirname(path), done: [...done], notices }
  } finally {
    checkpoint.close()
  }
}

const contents = (folder: string) =>
  ['model.onnx', 'weights.bin'].map((name) => readFileSync(join(folder, name)))

const partials = (cacheDir: string) =>
  readdirSync(cacheDir).filter((name) => name.endsWith('.partial'))

const whole = ['reading the checkpoint', 'converting weights', 'checking converted weights']

describe('a conversion is found again', () => {
  it('in the same place without reading the checkpoint', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const first = await convert(dir, cache)
    assert.deepEqual(first.done, whole)
    const second = await convert(dir, cache)
    assert.deepEqual(second, { ...first, done: [] })
  })

  it('with the digest of the weights that it was made from', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const bytes = readFileSync(join(dir, 'model.safetensors'))
    const digest = createHash('sha256').update(bytes).digest('hex')
    assert.equal((await convert(dir, cache)).baseDigest, digest)
    assert.equal((await convert(dir, cache)).baseDigest, digest)
    assert.equal((await convert(dir, cache, { format: { kind: 'fp32' } })).baseDigest, digest)
  })

  it('by content, wherever the checkpoint lies and whenever it was written', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const { path } = await convert(dir, cache)
    const copy = newFolder()
    cpSync(dir, copy, { recursive: true })
    assert.deepEqual((await convert(copy, cache)).done, ['reading the checkpoint'])
    utimesSync(join(dir, 'model.safetensors'), 1, 1)
    const touched = await convert(dir, cache)
    assert.deepEqual([touched.path, touched.done], [path, ['reading the checkpoint']])
  })

  it('not when a weight changed and size and time did not', async () => {
    const tensors = randomTensors()
    const dir = createCheckpoint(tensors)
    const cache = newFolder()
    const weights = join(dir, 'model.safetensors')
    utimesSync(weights, 1000, 1000)
    const first = await convert(dir, cache)
    tensors['model.norm.weight']!.data[0] = 0.5
    // A download that replaces the file: another inode.
    rmSync(weights)
    writeFileSync(`${weights}.new`, '')
    writeFileSync(weights, encodeSafetensors(tensors))
    utimesSync(weights, 1000, 1000)
    const second = await convert(dir, cache)
    assert.notEqual(second.path, first.path)
    assert.deepEqual(second.done, whole)
  })

  it('only for the same format, context and adapted modules', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const paths = new Set<string>()
    const formats: readonly WeightFormat[] = [
      int4,
      { ...int4, block: 64 },
      { ...int4, zeroPoints: false },
      { ...int4, searchScales: false },
      { kind: 'fp32' },
    ]
    for (const format of formats) paths.add((await convert(dir, cache, { format })).path)
    paths.add((await convert(dir, cache, { maxContext: 32 })).path)
    paths.add((await convert(dir, cache, { sites: [] })).path)
    assert.equal(paths.size, formats.length + 2)
  })
})

describe('a folder of the cache is checked before it is used', () => {
  const damages: ReadonlyArray<readonly [string, RegExp, (folder: string) => void]> = [
    [
      'shortened',
      /weights\.bin has 9 bytes instead of/,
      (folder) => truncateSync(join(folder, 'weights.bin'), 9),
    ],
    [
      'overwritten',
      /weights\.bin does not hold what was written/,
      (folder) => writeSync(openSync(join(folder, 'weights.bin'), 'r+'), 'x', 5),
    ],
    ['half copied', /model\.onnx is missing/, (folder) => rmSync(join(folder, 'model.onnx'))],
    [
      'without its manifest',
      /manifest\.json is missing or broken/,
      (folder) => rmSync(join(folder, 'manifest.json')),
    ],
    [
      'with a torn manifest',
      /manifest\.json is missing or broken/,
      (folder) => truncateSync(join(folder, 'manifest.json'), 20),
    ],
  ]
  for (const [title, says, damage] of damages) {
    it(`${title}: it is discarded, which is said, and made again`, async () => {
      const dir = createCheckpoint()
      const cache = newFolder()
      const first = await convert(dir, cache)
      const before = contents(first.folder)
      damage(first.folder)
      const second = await convert(dir, cache)
      assert.equal(second.path, first.path)
      assert.equal(second.notices.length, 1)
      assert.match(second.notices[0]!, says)
      assert.ok(second.done.includes('converting weights'))
      assert.deepEqual(contents(second.folder), before)
      assert.deepEqual((await convert(dir, cache)).notices, [])
      assert.deepEqual(partials(cache), [])
    })
  }

  it('one that was copied is read once and then trusted', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    await convert(dir, cache)
    const copy = newFolder()
    cpSync(cache, copy, { recursive: true })
    const first = await convert(dir, copy)
    assert.deepEqual([first.done, first.notices], [['checking converted weights'], []])
    assert.deepEqual((await convert(dir, copy)).done, [])
  })
})

describe('what a conversion leaves', () => {
  it('leftovers of dead processes are removed, those of others are not', async () => {
    const cache = newFolder()
    const { pid: dead } = spawnSync(process.execPath, ['-e', ''])
    const mine = basename(partialName('a'))
    const [, host = '', pid = ''] = mine.split('.')
    const named = (machine: string, number: number | string, mark: string) =>
      `a.${machine}.${number}.${mark}.partial`
    const gone = [named(host, dead, '00000000'), named(host, pid, '11111111')]
    const kept = [mine, named(host, process.ppid, '22222222'), named('00000000', dead, '33333333')]
    for (const name of [...gone, ...kept]) {
      mkdirSync(join(cache, name))
      writeFileSync(join(cache, name, 'weights.bin'), '')
    }
    const { notices } = await convert(createCheckpoint(), cache)
    assert.deepEqual(partials(cache).sort(), kept.sort())
    assert.equal(notices.length, 2)
  })

  it('too little space is refused with numbers before anything is written', async () => {
    const cache = newFolder()
    await assert.rejects(convert(createCheckpoint(), cache, { freeBytesOf: () => 2 ** 20 }), {
      code: 'invalid_config',
      message: /needs 17 MiB in .* and 1 MiB are free there: .*--cache-dir/,
    })
    assert.deepEqual(readdirSync(cache), ['hashes'])
  })

  it('a disk that fills up is one clear line', { skip: !existsSync('/dev/full') }, () => {
    try {
      writeFileSync('/dev/full', 'x')
      assert.fail('a full device took something')
    } catch (error) {
      const explained = explainDiskError(error, '/cache', 5 * 2 ** 30) as Error
      assert.match(explained.message, /^The disk of \/cache filled up .* needs 5\.0 GiB: free some/)
    }
  })

  it('a cache folder that is a file is refused', async () => {
    const file = join(newFolder(), 'file')
    writeFileSync(file, '')
    await assert.rejects(convert(createCheckpoint(), file), {
      code: 'invalid_config',
      message: /--cache-dir must be a folder that can be written/,
    })
  })

  it('a checkpoint that changes meanwhile gives no graph', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const onProgress = (what: string) => {
      if (what === 'converting weights') utimesSync(join(dir, 'model.safetensors'), 7, 7)
    }
    await assert.rejects(convert(dir, cache, { onProgress }), /changed while it was converted/)
    assert.deepEqual(readdirSync(cache), ['hashes'])
  })

  it('two processes that convert at once both end well', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const script = fileURLToPath(new URL('./support/convert-once.js', import.meta.url))
    const runs = [1, 2, 3].map(() => {
      return promisify(execFile)(process.execPath, [script, dir, cache])
    })
    const paths = (await Promise.all(runs)).map(({ stdout }) => stdout.trim())
    assert.equal(new Set(paths).size, 1)
    assert.ok(existsSync(paths[0]!))
    assert.deepEqual(partials(cache), [])
  })
})

for (const [value, format] of [
  [Number.NaN, int4],
  [Number.POSITIVE_INFINITY, int4],
  [Number.NEGATIVE_INFINITY, { kind: 'fp32' }],
] as const) {
  test(`a weight that is ${value} (${format.kind}) is refused with its tensor’s name`, async () => {
    const tensors = randomTensors()
    tensors['model.layers.1.mlp.up_proj.weight']!.data[70] = value
    const cache = newFolder()
    await assert.rejects(convert(createCheckpoint(tensors), cache, { format }), {
      code: 'invalid_checkpoint',
      message: new RegExp(`layers\\.1\\.mlp\\.up_proj\\.weight holds ${value} at element 70;`),
    })
    assert.deepEqual(partials(cache), [])
  })
}

test('a thread’s error keeps its code, and ends the others', async () => {
  const tensors = randomTensors()
  tensors['model.embed_tokens.weight']!.data[0] = Number.NaN
  const path = join(newFolder(), 'weights.bin')
  writeFileSync(path, '')
  const part: ConvertPart = {
    dir: createCheckpoint(tensors),
    path,
    maxContext: 64,
    format: int4,
    target: cpuTarget,
    sites: [],
    indices: [0, 1, 2],
  }
  const all = runWorkers('convert-part', [part, part, part], { limit: 2, onBytes: () => {} })
  await assert.rejects(all, { code: 'invalid_checkpoint', message: /embed_tokens/ })
})

test('a head that the attention kernel does not take is refused', async () => {
  const narrow = { ...config, num_attention_heads: 4 }
  const shapes = expectedTensors(parseModelConfig(narrow))
  const tensors = Object.fromEntries(
    [...shapes].map(([name, shape]) => [
      name,
      { shape, data: new Float32Array(shape.reduce((x, y) => x * y)) },
    ]),
  )
  await assert.rejects(convert(createCheckpoint(tensors, narrow), newFolder()), {
    code: 'unsupported_checkpoint',
    message: /head_dim is 8/,
  })
})

test('weights are shared out by bytes', () => {
  const bytes = [100, 1, 1, 60, 40, 1, 1, 1]
  const sums = shareWeights(bytes, 2).map((share) => share.reduce((sum, i) => sum + bytes[i]!, 0))
  assert.deepEqual(sums.sort(), [102, 103])
  assert.deepEqual(shareWeights(bytes, 3).flat().sort(), [0, 1, 2, 3, 4, 5, 6, 7])
})
