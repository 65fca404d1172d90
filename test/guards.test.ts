// Guard folders: what is read of them, what is refused and how it is said, which one judges, and how
// adapters of the store tell them apart.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { readFolderEntries } from '../server/adapters/folder-index.ts'
import { sitesOfFolders } from '../server/adapters/sites.ts'
import { createAdapterStore } from '../server/adapters/store.ts'
import type { AppliedAdapter } from '../server/contracts/adapter.ts'
import { linearModules } from '../server/contracts/checkpoint.ts'
import type { EngineOptions } from '../server/contracts/engine.ts'
import { calibrationOf } from '../server/guards/calibration.ts'
import { chooseGuard } from '../server/guards/guard-choice.ts'
import { hasCode } from './support/errors.ts'
import { guardModules, type TestGuard, writeGuard } from './support/guard-folder.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { pseudoRandom, smallModel, upTensors, writeAdapter } from './support/tensor-files.ts'

const temp = createTempFolder()
const baseDigest = 'b'.repeat(64)
const otherDigest = 'c'.repeat(64)
const labels = { safe: 3, unsafe: 4 }
const good: TestGuard = { model: smallModel, baseDigest, token: 30, labels }

const newRoot = () => mkdtempSync(join(temp, 'root-'))

async function choose(root: string, choice: EngineOptions['guard'] = 'auto') {
  return chooseGuard({
    options: { adapters: root, guard: choice, guardExact: false, merged: [] },
    folders: await readFolderEntries(root),
    model: smallModel,
    tokenizer: {
      specialTexts: ['t28', 't29', 't30'],
      tokenText: (token) => (token < 31 ? `t${token}` : ''),
    },
    baseDigest: async () => baseDigest,
    onProgress: () => {},
    onNotice: assert.fail,
  })
}

async function load(changes: Partial<TestGuard> = {}) {
  const root = newRoot()
  writeGuard(root, 'judge', { ...good, ...changes })
  const found = await choose(root)
  assert.ok(found)
  return found
}

describe('a guard folder', () => {
  it('is read whole', async () => {
    const { guard, modules, probe, about } = await load()
    const { digest } = about
    assert.match(digest, /^[0-9a-f]{64}$/)
    const threshold = 0.6
    const info = { kind: 'adapter', id: 'judge', digest, hasProbe: true, threshold }
    assert.deepEqual(guard.info, info)
    assert.deepEqual([guard.token, guard.labels], [30, labels])
    assert.equal(guard.components.length, 4)
    assert.ok(guard.components.every(({ scale }) => scale === 1))
    assert.deepEqual(modules, guardModules)
    assert.deepEqual(probe?.place, { layer: 1, site: 'residual' })
    assert.deepEqual(probe?.direction, pseudoRandom(smallModel.hiddenSize, 5))
    assert.equal(guard.probe?.threshold, 0.8)
    assert.equal(guard.probe?.toScore(2.5), 1 / (1 + Math.exp(-1)))
  })

  it('may have no probe', async () => {
    const { guard, probe } = await load({ guard: { probe: null }, direction: null })
    assert.deepEqual([guard.probe, guard.info.hasProbe, probe], [null, false, null])
  })

  const probe = { layer: 1, site: 'residual', tensor: 'probe.weight', bias: 0 }
  const wholeProbe = { ...probe, temperature: 1, threshold: 0.5 }
  const refused: Readonly<Record<string, readonly [Partial<TestGuard>, RegExp]>> = {
    'a token beyond the vocabulary': [{ token: 32 }, /guard\.token is 32, which is no token/],
    'a token that is padding': [{ token: 31 }, /guard\.token is 31, which is no token/],
    'a token that text becomes': [{ token: 5 }, /guard\.token 5 is the text "t5"/],
    'a label beyond the vocabulary': [
      { labels: { safe: 3, unsafe: 99 } },
      /labels\.unsafe is 99, which is no token/,
    ],
    'labels that are one': [{ labels: { safe: 3, unsafe: 3 } }, /must be three tokens/],
    'a label that is the token': [{ labels: { safe: 30, unsafe: 3 } }, /must be three tokens/],
    'a label that is a text': [
      { guard: { labels: { safe: 'yes', unsafe: 'no' } } },
      /guard\.labels\.safe: Invalid input/,
    ],
    'a rank beyond 16': [{ rank: 17 }, /needs rank 17; .*at most 16/],
    'a temperature of 0': [{ guard: { temperature: 0 } }, /guard\.temperature/],
    'a threshold beyond 1': [{ guard: { threshold: 1.5 } }, /guard\.threshold/],
    'a threshold that is not finite': [{ guard: { threshold: null } }, /guard\.threshold/],
    'carriers that are no list': [{ guard: { carriers: {} } }, /guard\.carriers/],
    'a carrier of an ill-formed digest': [
      {
        guard: {
          carriers: [{ adapters: [{ digest: 'x', scale: 1 }], temperature: 1, threshold: 0.5 }],
        },
      },
      /carriers\.0\.adapters\.0\.digest: must be 64 hex digits/,
    ],
    'no field guard': [{ manifest: { guard: null } }, /manifest\.json: guard: /],
    'no base': [{ manifest: { base_digest: null } }, /manifest\.json: base_digest: /],
    'another token in its config': [
      { config: { alora_invocation_tokens: [29] } },
      /alora_invocation_tokens is \[29\]; manifest\.json names the token 30/,
    ],
    'no token in its config': [
      { config: { alora_invocation_tokens: null } },
      /alora_invocation_tokens is not set/,
    ],
    'a config that names more than its file': [
      { config: { target_modules: [...guardModules, 'v_proj'] } },
      /lacks 3 of the modules/,
    ],
    'a probe of another site': [
      { guard: { probe: { ...wholeProbe, site: 'attention' } } },
      /guard\.probe\.site/,
    ],
    'a probe beyond the layers': [
      { guard: { probe: { ...wholeProbe, layer: 3 } } },
      /probe\.layer is 3; the model has layers 0 to 2/,
    ],
    'a probe of another tensor': [
      { guard: { probe: { ...wholeProbe, tensor: 'w' } } },
      /probe\.safetensors: it holds no "w"/,
    ],
    'no file of the probe': [{ direction: null }, /probe\.safetensors: it is missing/],
    'a probe of another width': [{ direction: new Float32Array(7) }, /is \[1,7\].*needs \[1,8\]/],
    'a probe that is not finite': [
      { direction: new Float32Array(8).fill(Number.NaN) },
      /holds NaN, infinities or only zeros/,
    ],
  }
  for (const [what, [changes, message]] of Object.entries(refused)) {
    it(`ends the start with ${what}`, async () => {
      const whole = new RegExp(
        `^The guard "judge" cannot be used: .*${message.source}.* --guard none\\.$`,
      )
      await assert.rejects(load(changes), hasCode('invalid_config', whole))
    })
  }

  it('ends the start without its tensors', async () => {
    const root = newRoot()
    rmSync(join(writeGuard(root, 'judge', good), 'adapter_model.safetensors'))
    await assert.rejects(choose(root), /adapter_model\.safetensors is missing/)
  })
})

describe('which guard judges', () => {
  it('the only one for this base, of all that are there', async () => {
    const root = newRoot()
    assert.equal(await choose(root), null)
    writeAdapter(root, 'plain')
    writeGuard(root, 'foreign', { ...good, baseDigest: otherDigest })
    assert.equal(await choose(root), null)
    writeGuard(root, 'judge', good)
    assert.equal((await choose(root))?.guard.info.id, 'judge')
    assert.equal(await choose(root, 'none'), null)
  })

  it('of several one must be named', async () => {
    const root = newRoot()
    for (const id of ['one', 'two']) writeGuard(root, id, good)
    await assert.rejects(choose(root), /several guards for this base: "one", "two"\. .*--guard/)
    assert.equal((await choose(root, { id: 'two' }))?.guard.info.id, 'two')
  })

  it('a named one must be there, be a guard, and be for this base', async () => {
    const root = newRoot()
    writeAdapter(root, 'plain')
    writeGuard(root, 'foreign', { ...good, baseDigest: otherDigest })
    await assert.rejects(choose(root, { id: 'gone' }), /--guard "gone": there is no such folder/)
    await assert.rejects(choose(root, { id: 'plain' }), /--guard "plain" is no guard/)
    await assert.rejects(choose(root, { id: 'foreign' }), /it is for another base/)
  })
})

describe('what a guard is calibrated on', () => {
  const [one, two] = ['1'.repeat(64), '2'.repeat(64)]
  const carrier = (adapters: readonly object[], threshold: number, more: object = {}) => {
    return { adapters, temperature: 1, threshold, ...more }
  }
  const part = (threshold: number) => ({ threshold, temperature: 3, auroc: 0.9, n: 10 })
  const guard = {
    parts: { prompt: part(0.11) },
    carriers: [
      carrier([], 0.2, { parts: { output: part(0.25) } }),
      carrier([{ digest: one, scale: 0.5 }], 0.3),
      carrier([{ digest: one, scale: 1 }], 0.4),
      carrier(
        [
          { digest: one, scale: 1 },
          { digest: two, scale: 1 },
        ],
        0.5,
      ),
    ],
  }
  const ofPart = [0.11, 0.25]
  const applied = (digest: string, scale: number): AppliedAdapter => ({ id: 'x', digest, scale })

  const cases: ReadonlyArray<
    readonly [string, readonly AppliedAdapter[], 'input' | 'reasoning' | 'output', number, boolean]
  > = [
    ['the base', [], 'reasoning', 0.2, true],
    ["a carrier's own part", [], 'output', 0.25, true],
    ['a strength of a carrier', [applied(one, 0.5)], 'output', 0.3, true],
    ['a strength between two: the nearer', [applied(one, 0.8)], 'output', 0.4, true],
    ['a strength beyond', [applied(one, 1.01)], 'output', 0.6, false],
    ['a strength below', [applied(one, 0.4)], 'output', 0.6, false],
    ['another adapter', [applied(two, 1)], 'output', 0.6, false],
    ['two, in any order', [applied(two, 1), applied(one, 1)], 'output', 0.5, true],
    ['two at other strengths', [applied(two, 1), applied(one, 0.9)], 'output', 0.6, false],
    ['a part of one that is not certified', [applied(two, 1)], 'input', 0.11, false],
    ['a span', [{ ...applied(one, 1), span: 'answer' }], 'output', 0.6, false],
  ]
  for (const [what, adapters, judged, threshold, certified] of cases) {
    it(`${what}: ${threshold}, ${certified ? 'certified' : 'not certified'}`, async () => {
      const found = (await load({ guard })).guard.calibrationOf(adapters, judged)
      assert.equal(found.threshold, threshold)
      assert.equal(found.certified, certified)
      assert.equal(found.temperature, ofPart.includes(threshold) ? 3 : certified ? 1 : 1.5)
    })
  }
})

describe('a guard over merged weights', () => {
  const digest = (letter: string) => letter.repeat(64)
  const adapter = (letter: string, scale: number) => ({ digest: digest(letter), scale })
  const named = (letter: string, scale: number) => ({ id: letter, ...adapter(letter, scale) })
  const measured = { temperature: 1, n: 1 }
  const manifest = {
    ...{ baseDigest, token: 28, labels: { safe: 1, unsafe: 2 } },
    ...{ temperature: 2, threshold: 0.6 },
    carriers: [
      { adapters: [], threshold: 0.1, ...measured },
      { adapters: [adapter('a', 1)], threshold: 0.2, ...measured },
      { adapters: [adapter('a', 0.5)], threshold: 0.3, merged: true, ...measured },
      { adapters: [adapter('a', 1)], threshold: 0.4, merged: true, ...measured },
    ],
  }
  const cases = [
    ['the merged one, measured so', [named('a', 1)], [named('a', 1)], 0.4, true],
    ['between two that were', [named('a', 0.6)], [named('a', 0.6)], 0.3, true],
    ['at another strength beside the weights', [named('a', 0.5)], [named('a', 1)], 0.6, false],
    ['taken off', [], [named('a', 1)], 0.1, false],
    ['another merged, this one beside', [named('a', 1)], [named('b', 1)], 0.2, false],
    ['with another beside', [named('a', 1), named('b', 1)], [named('a', 1)], 0.6, false],
    ['with another merged', [named('a', 1)], [named('a', 1), named('b', 1)], 0.2, false],
    ['a part of the text', [{ ...named('a', 1), span: 'answer' }], [named('a', 1)], 0.6, false],
    ['unmerged: what was measured so alone', [named('a', 0.5)], [], 0.6, false],
  ] as const
  for (const [what, applied, merged, threshold, certified] of cases) {
    it(`${what}: ${certified ? 'certified' : 'not certified'}`, () => {
      const found = calibrationOf(manifest, applied, 'output', merged)
      assert.deepEqual([found.threshold, found.certified], [threshold, certified])
    })
  }
})

describe('a guard among adapters', () => {
  it('is listed with its kind, asks for no site, and is applied to nothing', async () => {
    const root = newRoot()
    writeGuard(root, 'judge', good)
    writeAdapter(root, 'plain', { tensors: upTensors() })
    assert.deepEqual(await sitesOfFolders(await readFolderEntries(root)), ['up_proj'])
    const guard = await choose(root)
    const options = { modelConfig: smallModel, maxBytes: 1e6, maxRankPerRow: 16, baseDigest: null }
    const store = createAdapterStore({ ...options, root, guard, sites: new Set(linearModules) })
    const named = { adapters: [{ id: 'judge', scale: null }], required: [] }
    for (const _ of [1, 2]) {
      const isGuard = hasCode('unsupported_adapter', /^Adapter "judge": it is a guard/)
      await assert.rejects(store.acquire(named), isGuard)
    }
    const [judge, plain] = await store.list()
    assert.deepEqual([judge!.kind, judge!.state, judge!.error], ['guard', 'resident', null])
    assert.equal(judge!.digest, guard!.about.digest)
    assert.deepEqual([plain!.kind, plain!.state], ['adapter', 'available'])
  })

  it('an adapter that names tokens like a guard is refused by name', async () => {
    const root = newRoot()
    const dir = writeAdapter(root, 'plain', { config: { alora_invocation_tokens: [30] } })
    writeFileSync(join(dir, 'manifest.json'), '{"kind": "gaurd"}')
    const options = { modelConfig: smallModel, maxBytes: 1e6, maxRankPerRow: 16 }
    const store = createAdapterStore({ ...options, root, sites: new Set(linearModules) })
    const named = { adapters: [{ id: 'plain', scale: null }], required: [] }
    await assert.rejects(store.acquire(named), /alora_invocation_tokens is set/)
  })
})
