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
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { describe, it, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import { parseModelConfig } from '../server/checkpoint/checkpoint-config.ts'
import { expectedTensors } from '../server/checkpoint/checkpoint-tensors.ts'
import { cpuTarget, linearModules, type WeightFormat } from '../server/contracts/checkpoint.ts'
import { explainDiskError } from '../server/conversion/cache-disk.ts'
import { type ConvertOptions, convertCheckpoint } from '../server/conversion/convert.ts'
import { type ConvertPart, convertPartTask } from '../server/conversion/convert-part.ts'
import { partialName } from '../server/conversion/partial-folder.ts'
import { shareWeights } from '../server/conversion/weights-file.ts'
import { runTasks } from '../server/threads/run-tasks.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { encodeSafetensors, pseudoRandom, type TestTensor } from './support/tensor-files.ts'

const temp = createTempFolder()
const convertOnce = fileURLToPath(new URL('./support/convert-once.js', import.meta.url))
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

const contents = (path: string) =>
  [path, join(dirname(path), 'weights.bin')].map((file) => readFileSync(file))

const graphsIn = (folder: string) =>
  readdirSync(folder).filter((name) => /^(model|probe)\.[0-9a-f]{16}\.onnx$/.test(name))

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

  const replaced = (path: string, bytes: Uint8Array) => {
    rmSync(path)
    writeFileSync(path, bytes)
  }
  for (const [how, write] of [
    ['in place', writeFileSync],
    ['by another file', replaced],
  ] as const) {
    it(`not when a weight changed ${how}, and size and time did not`, async () => {
      const tensors = randomTensors()
      const dir = createCheckpoint(tensors)
      const cache = newFolder()
      const weights = join(dir, 'model.safetensors')
      utimesSync(weights, 1000, 1000)
      const first = await convert(dir, cache)
      tensors['model.norm.weight']!.data[0] = 0.5
      write(weights, encodeSafetensors(tensors))
      utimesSync(weights, 1000, 1000)
      const second = await convert(dir, cache)
      assert.notEqual(second.path, first.path)
      assert.deepEqual(second.done, whole)
    })
  }

  it('only for the same format and context', async () => {
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
    for (const format of formats) paths.add((await convert(dir, cache, { format })).folder)
    paths.add((await convert(dir, cache, { maxContext: 32 })).folder)
    assert.equal(paths.size, formats.length + 1)
  })
})

describe('adapter sites', () => {
  const everywhere = { sites: linearModules }

  it('of another set add graphs beside the same weights, which are neither written nor read', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const first = await convert(dir, cache)
    const weights = join(first.folder, 'weights.bin')
    const before = statSync(weights, { bigint: true })
    const graphs = graphsIn(first.folder)
    const second = await convert(dir, cache, everywhere)
    const after = statSync(weights, { bigint: true })
    assert.deepEqual([second.folder, second.done], [first.folder, []])
    assert.deepEqual([after.ino, after.mtimeNs], [before.ino, before.mtimeNs])
    assert.notEqual(second.path, first.path)
    assert.equal(graphs.length, 2)
    assert.equal(graphsIn(first.folder).length, 4)
    // The first set's graph is still there, as it was.
    assert.deepEqual(await convert(dir, cache), { ...first, done: [] })
  })

  it('make the same weights and graphs whichever set came first', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    for (const format of [int4, { kind: 'fp32' } as const]) {
      await convert(dir, cache, { format, sites: [] })
      const later = await convert(dir, cache, { format, ...everywhere })
      const alone = await convert(dir, newFolder(), { format, ...everywhere })
      assert.deepEqual(contents(later.path), contents(alone.path))
    }
  })

  it('that two starts bring at once come to lie over one conversion', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const both = await Promise.all([convert(dir, cache), convert(dir, cache, everywhere)])
    assert.equal(new Set(both.map(({ folder }) => folder)).size, 1)
    assert.ok(both.every(({ path }) => existsSync(path)))
    assert.deepEqual(partials(cache), [])
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
    ['half copied', /weights\.bin is missing/, (folder) => rmSync(join(folder, 'weights.bin'))],
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
      const before = contents(first.path)
      damage(first.folder)
      const second = await convert(dir, cache)
      assert.equal(second.path, first.path)
      assert.equal(second.notices.length, 1)
      assert.match(second.notices[0]!, says)
      assert.ok(second.done.includes('converting weights'))
      assert.deepEqual(contents(second.path), before)
      assert.deepEqual((await convert(dir, cache)).notices, [])
      assert.deepEqual(partials(cache), [])
    })
  }

  it('a damaged graph is written again, which is said; the weights stay', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const first = await convert(dir, cache)
    const before = contents(first.path)
    truncateSync(first.path, 99)
    const second = await convert(dir, cache)
    assert.deepEqual(second.done, [])
    assert.deepEqual(second.notices, [`${first.path} is damaged: it is written again.`])
    assert.deepEqual(contents(second.path), before)
    assert.deepEqual(partials(cache), [])
  })

  it('a graph that is missing is written again', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const { path, folder } = await convert(dir, cache)
    const names = graphsIn(folder)
    for (const name of names) rmSync(join(folder, name))
    assert.deepEqual((await convert(dir, cache)).done, [])
    assert.deepEqual(graphsIn(folder), names)
    assert.ok(existsSync(path))
  })

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

  describe('of an earlier version of the server', () => {
    /** A folder as any version left it. */
    function leave(cache: string, digit: string, manifest: object | null): string {
      const folder = join(cache, digit.repeat(32))
      mkdirSync(folder)
      writeFileSync(join(folder, 'weights.bin'), Buffer.alloc(3 << 20))
      const text = manifest === null ? '{' : JSON.stringify(manifest)
      writeFileSync(join(folder, 'manifest.json'), text)
      return folder
    }
    const ofVersion = (graphVersion: number) => ({ madeFrom: { graphVersion }, files: {} })

    it('is removed, with one line that says what came free', async () => {
      const cache = newFolder()
      const old = [leave(cache, 'a', ofVersion(1)), leave(cache, 'b', ofVersion(11))]
      const { notices } = await convert(createCheckpoint(), cache)
      assert.equal(notices.length, 1)
      assert.match(
        notices[0]!,
        /^2 of the conversions in .* earlier version.* removed, 7 MiB freed/,
      )
      assert.ok(old.every((folder) => !existsSync(folder)))
      assert.deepEqual(partials(cache), [])
    })

    it('makes room before room is asked for', async () => {
      const cache = newFolder()
      const old = leave(cache, 'a', ofVersion(11))
      const freeBytesOf = () => (existsSync(old) ? 0 : 1e9)
      await convert(createCheckpoint(), cache, { freeBytesOf })
    })

    it('is all that goes: not what a later one made, nor what nobody can tell, nor other formats', async () => {
      const dir = createCheckpoint()
      const cache = newFolder()
      const { folder: other } = await convert(dir, cache, { format: { kind: 'fp32' } })
      const kept = [
        other,
        leave(cache, 'c', ofVersion(1e6)),
        leave(cache, 'd', null),
        leave(cache, 'e', { made: 'elsewhere' }),
      ]
      mkdirSync(join(cache, 'mine'))
      writeFileSync(join(cache, 'mine', 'manifest.json'), JSON.stringify(ofVersion(1)))
      const { notices } = await convert(dir, cache)
      assert.deepEqual(notices, [])
      for (const folder of [...kept, join(cache, 'mine')]) assert.ok(existsSync(folder), folder)
    })
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

  it('a cache folder that cannot be made is refused at once', async () => {
    // Linux answers ENOENT below /proc, for which Node's recursive mkdir never returns.
    const link = join(newFolder(), 'link')
    symlinkSync(join(newFolder(), 'gone', 'target'), link)
    const impossible = existsSync('/proc/self') ? ['/proc/nope', '/proc/nope/deeper/still'] : []
    for (const dir of [...impossible, link, join(link, 'below')]) {
      await assert.rejects(convert(createCheckpoint(), dir), {
        code: 'invalid_config',
        message: /--cache-dir must be a folder that can be written; .* cannot \(E[A-Z]+\)/,
      })
    }
  })

  it('a cache folder is made with those above it, also through a link', async () => {
    const folder = newFolder()
    mkdirSync(join(folder, 'target'))
    symlinkSync(join(folder, 'target'), join(folder, 'link'))
    const dir = join(folder, 'link', 'a', 'b')
    await convert(createCheckpoint(), dir)
    assert.ok(existsSync(join(folder, 'target', 'a', 'b')))
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

  for (const phase of ['converting weights', 'checking converted weights', 'flush']) {
    it(`a kill while it writes leaves nothing that is taken for whole: ${phase}`, async () => {
      const dir = createCheckpoint()
      const cache = newFolder()
      const { signal } = spawnSync(process.execPath, [convertOnce, dir, cache, phase])
      assert.equal(signal, 'SIGKILL')
      assert.equal(partials(cache).length, 1)
      const format = { kind: 'fp32' } as const
      const { done, notices, path } = await convert(dir, cache, { format, sites: [] })
      assert.ok(done.includes('converting weights'))
      assert.match(notices.join(), /left in the cache by a process that died/)
      assert.deepEqual(partials(cache), [])
      const fresh = await convert(dir, newFolder(), { format, sites: [] })
      assert.deepEqual(contents(path), contents(fresh.path))
    })
  }

  it('no file handle is an error of its own: a whole conversion is not called damaged', {
    skip: process.platform === 'win32',
  }, async () => {
    const { folder } = await convert(createCheckpoint(), newFolder())
    const script = fileURLToPath(new URL('./support/look-starved.js', import.meta.url))
    const limited = `ulimit -n 512; exec "${process.execPath}" "${script}" "${folder}"`
    const { stdout } = spawnSync('sh', ['-c', limited], { encoding: 'utf8' })
    assert.equal(stdout.trim(), 'EMFILE')
    const error = Object.assign(new Error(), { code: 'EMFILE' })
    const told = explainDiskError(error, '/cache', 1) as Error & { code: string }
    assert.equal(told.code, 'invalid_config')
    assert.match(told.message, /no file handles left \(EMFILE\).*ulimit -n/)
  })

  it('two processes that convert at once both end well', async () => {
    const dir = createCheckpoint()
    const cache = newFolder()
    const runs = [1, 2, 3].map(() => {
      return promisify(execFile)(process.execPath, [convertOnce, dir, cache])
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
    indices: [0, 1, 2],
    folds: null,
  }
  const all = runTasks(convertPartTask, [part, part, part], { limit: 2, onBytes: () => {} })
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
