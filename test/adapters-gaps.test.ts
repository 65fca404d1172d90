// Adapters that do less than they say, and adapter folders that hold less than one would think:
// served with a warning, never as the operator's own.

import assert from 'node:assert/strict'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { readFolderEntries } from '../server/adapters/folder-index.ts'
import { surveyAdapters } from '../server/adapters/folder-survey.ts'
import { sitesOfFolders } from '../server/adapters/sites.ts'
import { createAdapterStore } from '../server/adapters/store.ts'
import type { AdapterRef } from '../server/contracts/adapter.ts'
import { type LinearModule, linearModules } from '../server/contracts/checkpoint.ts'
import { createTempFolder } from './support/temp-folder.ts'
import {
  joinSafetensors,
  loraTensors,
  smallModel,
  type TestAdapter,
  type TestTensor,
  upTensors,
  writeAdapter,
} from './support/tensor-files.ts'

const temp = createTempFolder()
let numRoots = 0

function newRoot(): string {
  const root = join(temp, `adapters-${++numRoots}`)
  mkdirSync(root)
  return root
}

function createTestStore(adapter: TestAdapter, operators: readonly AdapterRef[] = []) {
  const root = newRoot()
  writeAdapter(root, 'a', adapter)
  const notices: string[] = []
  const store = createAdapterStore({
    root,
    modelConfig: smallModel,
    sites: new Set(linearModules),
    operators,
    onNotice: (message) => notices.push(message),
    maxBytes: 1e6,
    maxRankPerRow: 4,
  })
  const acquire = () => store.acquire({ adapters: [{ id: 'a', scale: null }], required: [] })
  const warnings = async () => (await store.list()).find(({ id }) => id === 'a')!.warnings
  return { root, store, notices, acquire, warnings }
}

/** The tensors with those of one side, in some layers, set to zero. */
function zeroed(tensors: Record<string, TestTensor>, pattern: RegExp) {
  return Object.fromEntries(
    Object.entries(tensors).map(([key, tensor]) => {
      const { data, shape } = tensor
      return [key, pattern.test(key) ? { shape, data: new Float32Array(data.length) } : tensor]
    }),
  )
}

const all = [0, 1, 2]
const upAndDown = loraTensors({
  rank: 1,
  layers: all,
  modules: ['up_proj', 'down_proj'],
  seed: 3,
  model: smallModel,
})

/** [what is odd, the adapter, what the warning says] */
const gaps: ReadonlyArray<readonly [string, TestAdapter, RegExp]> = [
  ['a layer is missing', { tensors: upTensors({ layers: [0, 2] }) }, /lacks 1 .*layers\.1\.mlp/],
  [
    'a module is missing',
    { config: { target_modules: ['up_proj', 'down_proj'] } },
    /lacks 3 .*down_proj/,
  ],
  [
    'a module of one layer is missing',
    { config: { target_modules: ['up_proj', 'layers.2.self_attn.q_proj'] } },
    /lacks 1 .*layers\.2\.self_attn\.q_proj/,
  ],
  [
    'a layer of layers_to_transform is missing',
    { config: { layers_to_transform: [0, 1] }, tensors: upTensors({ layers: [0] }) },
    /lacks 1 .*layers\.1/,
  ],
  [
    'layers_to_transform names a layer that the model lacks',
    { config: { layers_to_transform: [0, 1, 2, 3] } },
    /layers_to_transform .*: 3; it has 0 to 2/,
  ],
  [
    'a whole name is not there',
    { config: { target_modules: ['up_proj', 'lm_head'] } },
    /names "lm_head"/,
  ],
  ['all-linear is not all', { config: { target_modules: 'all-linear' } }, /lacks 18 /],
  [
    'a pattern names more',
    { config: { target_modules: '.*\\.mlp\\.(up|down)_proj' } },
    /lacks 3 .*down_proj/,
  ],
  ['every lora_B is zero', { tensors: zeroed(upTensors(), /lora_B/) }, /changes nothing/],
  ['every lora_A is zero', { tensors: zeroed(upTensors(), /lora_A/) }, /changes nothing/],
  [
    'one side of each module is zero',
    { tensors: zeroed(upTensors(), /0\..*lora_A|[12]\..*lora_B/) },
    /changes nothing/,
  ],
  ['alpha is zero', { config: { lora_alpha: 0 } }, /changes nothing/],
]

describe('an adapter that does less than it says', () => {
  for (const [title, adapter, expected] of gaps) {
    it(`is served with a warning in the list and the log: ${title}`, async () => {
      const { acquire, notices, warnings } = createTestStore(adapter)
      const held = await acquire()
      held.release()
      const [warning, ...others] = await warnings()
      assert.deepEqual(others, [])
      assert.match(warning!, expected)
      assert.deepEqual(notices, [`Adapter "a": ${warning}`])
    })

    it(`is refused as the operator's own: ${title}`, async () => {
      const { acquire, store } = createTestStore(adapter, [{ id: 'a', scale: null }])
      await assert.rejects(acquire(), { code: 'invalid_adapter', message: expected })
      const [summary] = await store.list()
      assert.equal(summary!.state, 'invalid')
      assert.match(summary!.error!.message, /operator's flags .*must be whole/)
    })
  }

  it('tells of missing modules in the list before anything is read', async () => {
    const { warnings } = createTestStore({ tensors: upTensors({ layers: [0] }) })
    assert.match((await warnings())[0]!, /lacks 2 /)
  })

  it('tells of modules that are zero among others, and runs them for the operator, too', async () => {
    const tensors = zeroed(upAndDown, /down_proj.*lora_B/)
    const config = { target_modules: ['up_proj', 'down_proj'] }
    const { acquire, warnings } = createTestStore({ config, tensors }, [{ id: 'a', scale: null }])
    const held = await acquire()
    held.release()
    assert.match((await warnings())[0]!, /3 of its 6 modules are zero/)
  })

  it('may be replaced by a whole one, and a whole one by it', async () => {
    const { root, acquire } = createTestStore({}, [{ id: 'a', scale: null }])
    const held = await acquire()
    held.release()
    writeAdapter(root, 'a', { tensors: zeroed(upTensors({ seed: 2 }), /lora_B/) })
    await assert.rejects(acquire(), { code: 'invalid_adapter' })
    writeAdapter(root, 'a', { tensors: upTensors({ seed: 3 }) })
    const again = await acquire()
    again.release()
  })

  it('has a recommended strength of 0: the operator must name another', async () => {
    const adapter = { manifest: { recommended_strength: 0 } }
    const silent = createTestStore(adapter, [{ id: 'a', scale: null }])
    await assert.rejects(silent.acquire(), /recommended_strength is 0/)
    const named = createTestStore(adapter, [{ id: 'a', scale: 0.5 }])
    const held = await named.acquire()
    held.release()
    assert.match((await named.warnings())[0]!, /recommended_strength is 0/)
  })
})

/** Whole adapters: no warning. */
const whole: ReadonlyArray<readonly [string, TestAdapter]> = [
  ['as the trainer writes it', {}],
  ['no target_modules', { config: { target_modules: null } }],
  ['whole names', { config: { target_modules: ['mlp.up_proj', 'model.layers.0.mlp.up_proj'] } }],
  ['a pattern', { config: { target_modules: 'model\\.layers\\.\\d+\\.mlp\\.up_proj' } }],
  [
    'some layers, as it says',
    { config: { layers_to_transform: 1 }, tensors: upTensors({ layers: [1] }) },
  ],
  [
    'all but what is excluded',
    { config: { target_modules: 'all-linear', exclude_modules: '.*(attn|gate|down).*' } },
  ],
]

for (const [title, adapter] of whole) {
  it(`a whole adapter has no warning: ${title}`, async () => {
    const { acquire, warnings } = createTestStore(adapter, [{ id: 'a', scale: null }])
    assert.deepEqual(await warnings(), [])
    const held = await acquire()
    held.release()
    assert.deepEqual(await warnings(), [])
  })
}

it('a pattern that may take for ever is not tried, and the list says so', async () => {
  const { acquire, warnings } = createTestStore({ config: { target_modules: '(.*)*up_projx' } })
  const held = await acquire()
  held.release()
  assert.match((await warnings())[0]!, /is a pattern that is not compared/)
})

async function survey(root: string, reserved: readonly string[] = []): Promise<readonly string[]> {
  return surveyAdapters(root, await readFolderEntries(root), reserved)
}

describe('the adapters folder at the start', () => {
  it('holds none: says why', async () => {
    const root = newRoot()
    assert.match((await survey(root))[0]!, /holds no adapter: each adapter is a folder in it/)
    const adapter = writeAdapter(root, 'a')
    assert.deepEqual(await survey(root), [])
    assert.match((await survey(adapter))[0]!, /an adapter itself; name the folder above it/)
    const file = join(adapter, 'adapter_config.json')
    assert.match((await survey(file))[0]!, /not a folder/)
    assert.match((await survey(join(root, 'none')))[0]!, /no such folder/)
  })

  it('names folders that no request can name, and so does the list', async () => {
    const { root, store } = createTestStore({})
    for (const name of ['bad name', 'a\nb', 'x'.repeat(65), '.hidden', 'none', '.git']) {
      mkdirSync(join(root, name))
    }
    writeFileSync(join(root, '.hidden', 'adapter_config.json'), '{}')
    writeFileSync(join(root, 'notes of mine.txt'), '')
    const [notice, ...others] = await survey(root, ['none', 'base'])
    assert.deepEqual(others, [])
    for (const name of ['bad name', 'a\\nb', 'xxx', '.hidden', 'none']) {
      assert.ok(notice!.includes(name), name)
    }
    assert.ok(!notice!.includes('.git'))
    const listed = (await store.list()).filter(({ state }) => state === 'invalid')
    assert.deepEqual(
      listed.map(({ id }) => id),
      ['.hidden', 'a\nb', 'bad name', 'none', 'x'.repeat(65)],
    )
    for (const { error } of listed) assert.match(error!.message, /rename its folder/)
  })

  it('is looked at for sites, whatever a header claims', async () => {
    const root = newRoot()
    const dir = writeAdapter(root, 'good')
    for (const [name, bytes] of [
      ['short', Buffer.alloc(3)],
      ['long', joinSafetensors('{', Buffer.alloc(0), 1n << 60n)],
      ['odd', joinSafetensors('"model.layers.0.mlp.odd_proj.lora_A.weight"', Buffer.alloc(0))],
    ] as const) {
      writeAdapter(root, name, { tensors: bytes })
    }
    assert.deepEqual(await sitesOfFolders(await readFolderEntries(root)), ['up_proj'])
    renameSync(dir, `${dir} copy`)
    assert.deepEqual(await sitesOfFolders(await readFolderEntries(root)), [])
    rmSync(root, { recursive: true })
    assert.deepEqual(await sitesOfFolders(await readFolderEntries(root)), [])
  })

  it('asks for no sites where it is of another base', async () => {
    const root = newRoot()
    const [baseDigest, other] = ['a'.repeat(64), 'b'.repeat(64)]
    writeAdapter(root, 'ours', { manifest: { base_digest: baseDigest } })
    const tensorsOf = (module: LinearModule) =>
      loraTensors({ rank: 1, layers: [0], modules: [module], seed: 1, model: smallModel })
    const manifest = { base_digest: other }
    writeAdapter(root, 'theirs', { tensors: tensorsOf('down_proj'), manifest })
    assert.deepEqual(await sitesOfFolders(await readFolderEntries(root)), ['up_proj', 'down_proj'])
    assert.deepEqual(await sitesOfFolders(await readFolderEntries(root), { baseDigest }), [
      'up_proj',
    ])
    assert.deepEqual(await sitesOfFolders(await readFolderEntries(root), { baseDigest: other }), [
      'down_proj',
    ])
    writeAdapter(root, 'unsigned', { tensors: tensorsOf('gate_proj') })
    assert.deepEqual(await sitesOfFolders(await readFolderEntries(root), { baseDigest }), [
      'gate_proj',
      'up_proj',
    ])
  })
})
