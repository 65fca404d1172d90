// manifest.json: what of it is shown, and what each wrong one is answered with.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { findAdapterFolder } from '../server/adapters/adapter-folder.ts'
import { otherBase, parseManifest, readManifest } from '../server/adapters/manifest.ts'
import { baseDigestOf } from '../server/checkpoint/base-digest.ts'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import { hashFiles } from '../server/conversion/file-hashes.ts'
import { root as repository } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { writeAdapter } from './support/tensor-files.ts'

const share = { count: 3, n: 4, value: 0.75, low: 0.3, high: 0.95 }
const whole = {
  recommended_strength: 0.75,
  description: 'refuses',
  base_model: 'models/tiny-reasoner',
  base_digest: 'a'.repeat(64),
  data: '400 generated refusals',
  data_sha256: 'b'.repeat(64),
  config: { rank: 1, layers: null },
  seed: 1,
  commit: `${'c'.repeat(40)}+changes`,
  versions: { torch: '2.13.0' },
  exam: { split: 'test', seed: 11, n: 1500 },
  results: { base: { shares: { fact: share }, scorer: 'rule' } },
  strength: {
    chosen: 0.75,
    rule: 'the smallest',
    rows: [{ strength: 0, shares: { fact: share } }],
  },
  notes: 'fields that nobody knows stay',
}

test('a whole manifest is shown as it is, without a warning', () => {
  assert.deepEqual(parseManifest(JSON.stringify(whole)), {
    kind: 'adapter',
    defaultScale: 0.75,
    description: 'refuses',
    baseDigest: 'a'.repeat(64),
    baseModel: 'models/tiny-reasoner',
    content: whole,
    warnings: [],
  })
})

const illFormed: readonly (readonly [field: string, value: unknown])[] = [
  ['recommended_strength', 'lots'],
  ['recommended_strength', 9],
  ['description', 5],
  ['base_digest', 'short'],
  ['data_sha256', 'B'.repeat(64)],
  ['config', [1]],
  ['seed', 1.5],
  ['commit', true],
  ['versions', { torch: 2 }],
  ['exam', { split: 'test' }],
  ['results', { base: { shares: { fact: { ...share, value: 75 } } } }],
  ['results', { base: { shares: { fact: { value: 0.75, low: 0.3, high: 0.95 } } } }],
  ['strength', { chosen: 1 }],
]
for (const [field, value] of illFormed) {
  test(`ill-formed and left out: ${field} ${JSON.stringify(value).slice(0, 40)}`, () => {
    const { content, warnings } = parseManifest(JSON.stringify({ ...whole, [field]: value }))
    const { [field]: _, ...rest } = whole as Record<string, unknown>
    assert.deepEqual(content, rest)
    assert.ok(warnings[0]!.startsWith(`manifest.json: ${field}`), warnings[0])
  })
}

test('fields that are null are as good as absent', () => {
  const { defaultScale, warnings } = parseManifest('{"recommended_strength": null, "commit": null}')
  assert.deepEqual([defaultScale, warnings], [1, []])
})

const unusable: readonly (readonly [title: string, text: string, warning: RegExp])[] = [
  ['half of one', '{"seed": 1', /it is not JSON/],
  ['a list', '[1, 2]', /not a JSON object/],
  ['null', 'null', /not a JSON object/],
  // It could be read, but not written out again: the list of all adapters failed with it.
  ['a deep one', `{"x": ${'['.repeat(30_000)}${']'.repeat(30_000)}}`, /deeper than 32 levels/],
]
for (const [title, text, warning] of unusable) {
  test(`nothing of it is shown: ${title}`, () => {
    const manifest = parseManifest(text)
    assert.deepEqual([manifest.content, manifest.defaultScale], [null, 1])
    assert.match(manifest.warnings.join(), warning)
  })
}

const root = createTempFolder()
function folderWith(id: string, write?: (path: string) => void) {
  const dir = writeAdapter(root, id)
  write?.(join(dir, 'manifest.json'))
  return findAdapterFolder(root, id)!
}

test('a manifest that is too large, no text or a link to the outside is told of', () => {
  const outside = join(createTempFolder(), 'secret.json')
  writeFileSync(outside, '{}')
  const cases: readonly (readonly [RegExp, (path: string) => void])[] = [
    [/more than 128000 bytes/, (path) => writeFileSync(path, ' '.repeat(128_001))],
    [/not UTF-8/, (path) => writeFileSync(path, Buffer.from([0x7b, 0xff, 0x7d]))],
    [/outside the adapters folder/, (path) => symlinkSync(outside, path)],
  ]
  for (const [i, [warning, write]] of cases.entries()) {
    assert.match(readManifest(folderWith(`x${i}`, write)).warnings.join(), warning)
  }
  assert.deepEqual(readManifest(folderWith('none')).warnings, [])
})

test('a base of one file has its digest, one of shards that of theirs in name order', () => {
  const [a, b] = ['a'.repeat(64), 'b'.repeat(64)]
  const config = { name: 'config.json', sha256: 'f'.repeat(64) }
  assert.equal(baseDigestOf([config, { name: 'model.safetensors', sha256: a }]), a)
  const shards = [
    { name: 'model-00002.safetensors', sha256: b },
    { name: 'model-00001.safetensors', sha256: a },
  ]
  // printf 'aaaa…bbbb…' | sha256sum
  const joined = 'fa0dafbf43f1f551e536353e9d1a942a8e86e41a0b58dfeaf264ef217f6b862a'
  assert.equal(baseDigestOf([...shards, config]), joined)
  const parts = shards.map(({ name, sha256 }) => {
    return { name: name.replace('.safetensors', '.gguf'), sha256 }
  })
  assert.equal(baseDigestOf(parts), joined)
})

test('the adapters that ship are whole, and of the base that ships or of the demo’s', async () => {
  const checkpoint = openCheckpoint('models/tiny-reasoner')
  checkpoint.close()
  const hashed = await hashFiles(checkpoint.files.map(({ path }) => path))
  const embedded = baseDigestOf(hashed.map(({ path, sha256 }) => ({ name: path, sha256 })))
  const { smolLm2 } = await import(new URL('scripts/real-model.mjs', `file://${repository}/`).href)
  // A server that was started here leaves a folder of its own, .dutyfree.
  const ids = readdirSync('adapters').filter((name) => !name.startsWith('.'))
  assert.ok(ids.length > 0)
  for (const id of ids) {
    const manifest = parseManifest(readFileSync(join('adapters', id, 'manifest.json'), 'utf8'))
    const digest = id.startsWith('smollm2-') ? smolLm2.sha256 : embedded
    assert.deepEqual(manifest.warnings, [], id)
    assert.equal(manifest.baseDigest, digest, id)
    assert.equal(otherBase(manifest, digest), null)
    assert.equal(otherBase(manifest, 'f'.repeat(64))!.code, 'adapter_other_base')
    // A guard's numbers stand with what it judges by (guards.test.ts).
    const results = manifest.kind === 'guard' ? 'guard' : 'results'
    for (const field of ['base_digest', 'data_sha256', 'config', 'seed', 'versions', results]) {
      assert.ok(manifest.content![field] != null, `${id}: ${field}`)
    }
  }
})
