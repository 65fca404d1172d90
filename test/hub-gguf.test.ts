// GGUF files of a hub: which one is meant, and what comes.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, it } from 'node:test'
import { chooseGguf, type GgufChoice } from '../server/hub/gguf-selection.ts'
import { parseHubId } from '../server/hub/hub-id.ts'
import { startHub } from './support/hub.ts'
import { fetchFrom, randomBytes, smallRepo } from './support/hub-fetch.ts'

const quant = (text: string): GgufChoice => ({ kind: 'quant', quant: text })
const file = (name: string): GgufChoice => ({ kind: 'file', name })

describe('how a GGUF file is named', () => {
  const named: readonly (readonly [string, string, GgufChoice | null])[] = [
    ['org/name:Q4_K_M', 'main', quant('Q4_K_M')],
    ['org/name@v1:q8_0', 'v1', quant('q8_0')],
    ['org/name/name-Q4_0.gguf', 'main', file('name-Q4_0.gguf')],
    ['org/name/name-Q4_0.GGUF@v1', 'v1', file('name-Q4_0.GGUF')],
  ]
  for (const [text, revision, gguf] of named) {
    it(text, () => assert.deepEqual(parseHubId(text), { repo: 'org/name', revision, gguf }))
  }

  for (const text of [
    'org/name:',
    'org/name:a:b',
    'org/name:../x',
    'org/name/x/y.gguf',
    'org/name/model.bin',
    'org/name/a.gguf:Q4_0',
    'org/name/..gguf@v1@v2',
  ]) {
    it(`not ${text}`, () => assert.equal(parseHubId(text), null))
  }
})

const repo = [
  'README.md',
  'm-Q4_0.gguf',
  'm-Q4_K_M.gguf',
  'm-IQ4_K_M.gguf',
  'mmproj-m-f16.gguf',
  'm-f16-00002-of-00002.gguf',
  'm-f16-00001-of-00002.gguf',
]

describe('which GGUF file is meant', () => {
  it('the one whose name ends in the type, in any case, whole words only', () => {
    assert.deepEqual(chooseGguf(repo, quant('Q4_K_M'), 'org/m'), ['m-Q4_K_M.gguf'])
    assert.deepEqual(chooseGguf(repo, quant('q4_0'), 'org/m'), ['m-Q4_0.gguf'])
    assert.deepEqual(chooseGguf(['only.gguf', ...repo.slice(0, 1)], null, 'org/m'), ['only.gguf'])
  })

  it('all parts of a split one, in order, by type or by any part', () => {
    const parts = ['m-f16-00001-of-00002.gguf', 'm-f16-00002-of-00002.gguf']
    for (const choice of [quant('f16'), file(parts[0]!), file(parts[1]!)]) {
      assert.deepEqual(chooseGguf(repo, choice, 'org/m'), parts)
    }
    assert.throws(() => chooseGguf(repo.slice(0, 6), quant('f16'), 'org/m'), {
      code: 'invalid_checkpoint',
      message: '--model org/m: m-f16 has 1 of 2 parts',
    })
  })

  it('several, or none: the error lists what there is', () => {
    const there = 'm-IQ4_K_M.gguf, m-Q4_0.gguf, m-Q4_K_M.gguf, m-f16-00001-of-00002.gguf'
    const how = 'give org/m:<quant> or org/m/<file>'
    for (const [choice, what] of [
      [null, 'several GGUF files'],
      [quant('Q2_K'), 'no GGUF file for Q2_K'],
      [file('x.gguf'), 'no GGUF file for x.gguf'],
    ] as const) {
      assert.throws(() => chooseGguf(repo, choice, 'org/m'), {
        code: 'unsupported_checkpoint',
        message: `--model org/m has ${what}: ${how}; there are ${there}`,
      })
    }
  })
})

describe('a GGUF file from a hub', () => {
  const bytes = randomBytes(50_000)
  const files = { 'README.md': '#', 'm-Q4_0.gguf': bytes, 'm-Q8_0.gguf': randomBytes(100) }

  it('comes alone, and is there without a hub afterwards', async () => {
    const hub = await startHub()
    const commit = hub.commit(files)
    const id = 'org/tiny:Q4_0'
    const { folder, cacheDir } = await fetchFrom({ url: hub.url, id })
    await hub.close()
    const snapshot = join(cacheDir, 'models--org--tiny/snapshots', commit)
    assert.equal(relative(snapshot, folder!), 'm-Q4_0.gguf')
    assert.deepEqual(readFileSync(folder!), bytes)
    assert.deepEqual(readdirSync(snapshot), ['m-Q4_0.gguf'])
    const again = await fetchFrom({ url: hub.url, id, cacheDir, isOffline: true })
    assert.equal(again.folder, folder)
    const other = await fetchFrom({ url: hub.url, id: 'org/tiny:Q8_0', cacheDir, isOffline: true })
    assert.match(String(other.error), /is not complete in/)
  })

  it('safetensors are taken where both are and none is named', async () => {
    const hub = await startHub()
    hub.commit({ ...files, ...smallRepo })
    const { folder } = await fetchFrom({ url: hub.url })
    const file = await fetchFrom({ url: hub.url, id: 'org/tiny/m-Q8_0.gguf' })
    await hub.close()
    assert.ok(readdirSync(folder!).includes('model.safetensors'))
    assert.ok(file.folder?.endsWith('/m-Q8_0.gguf'))
  })
})
