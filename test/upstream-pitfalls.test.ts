// The ways in which vLLM answers without an adapter, or ends, and says nothing of it (docs/SCALE-OUT.md): what
// this front does in each. The fake has all of them.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { GenerationEvent } from '../server/contracts/generation.ts'
import { within } from './support/deadline.ts'
import type { FakeVllm } from './support/fake-vllm.ts'
import { root as sourceRoot } from './support/root.ts'
import { createRequest } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { upTensors, writeAdapter } from './support/tensor-files.ts'
import { failureIn, patience, upstreamModel, type World } from './support/upstream-world.ts'
import { createWorlds, withAdapter } from './support/upstream-worlds.ts'

const root = createTempFolder()
const { newDir, startFake, start } = createWorlds(root)

const untilUnloaded = (fake: FakeVllm, name: string) =>
  within(
    patience,
    `unload of ${name}`,
    (async () => {
      while (fake.adapters.has(name)) await new Promise((resolve) => setImmediate(resolve))
    })(),
  )

describe('a folder that is gone ends its engine', () => {
  it('folders stay when adapters are removed, replaced or evicted, so that it never reads in vain', async () => {
    const fake = await startFake({ maxLoras: 1 })
    const world = await start([fake])
    for (const name of ['a1', 'a2', 'a3']) await world.run(withAdapter(name, name))
    const change = { kind: 'remove', id: 'a1', waitMs: 0, keepsFiles: false } as const
    await world.engine.changeAdapter(change)
    const names = fake.loads().map(({ body }) => body.lora_path)
    assert.ok(names.length >= 4)
    for (const path of names)
      assert.ok(existsSync(join(path as string, 'adapter_model.safetensors')))
    assert.equal(fake.state.isDead, false)
  })

  it('an engine that ended all the same is unguarded nowhere: requests are refused, then served again', async () => {
    const fake = await startFake()
    const world = await start([fake])
    assert.equal(failureIn(await world.run(withAdapter('1', 'a1'))), null)
    fake.state.isDead = true
    const refused = failureIn(await world.run(withAdapter('2', 'a1')))
    assert.equal(refused?.code, 'upstream_unavailable')
    fake.restart()
    for (let tries = 0; ; tries++) {
      const failure = failureIn(await world.run(withAdapter(`again ${tries}`, 'a1')))
      if (failure === null) break
      assert.equal(failure.code, 'upstream_unavailable')
      await new Promise((resolve) => setTimeout(resolve, 20))
      assert.ok(tries < 1000)
    }
    assert.match(String(fake.completions().at(-1)!.body.model), /^[0-9a-f]{24}@1$/)
  })
})

describe('a name whose weights change keeps the old keys and values', () => {
  it('an adapter that changes on disk gets another name, and nothing is ever loaded in place', async () => {
    const fake = await startFake()
    const world = await start([fake])
    await world.run(withAdapter('1', 'a1'))
    const before = fake.completions().at(-1)!.body.model
    const dir = join(world.dir, 'adapters')
    writeAdapter(dir, 'staged', {
      config: { lora_alpha: 2 },
      tensors: upTensors({ seed: 9, model: upstreamModel }),
    })
    const change = {
      kind: 'load',
      id: 'a1',
      folder: 'staged',
      replace: true,
      digest: null,
      pinned: null,
    } as const
    await world.engine.changeAdapter(change)
    await world.run(withAdapter('2', 'a1'))
    assert.notEqual(fake.completions().at(-1)!.body.model, before)
    for (const { body } of fake.loads()) assert.equal(body.load_inplace, undefined)
  })

  it('replaced under load: answers under way keep the version they began with, new ones get the new', async () => {
    const fake = await startFake()
    const world = await start([fake])
    const dir = join(world.dir, 'adapters')
    writeAdapter(dir, 'staged', {
      config: { lora_alpha: 2 },
      tensors: upTensors({ seed: 9, model: upstreamModel }),
    })
    const fields = { maxTokens: 6, topLogprobs: 1 }
    const answerOf = (events: readonly GenerationEvent[]) => {
      assert.equal(failureIn(events), null)
      const [accepted] = events
      assert.ok(accepted?.kind === 'accepted')
      const deltas = events.filter((event) => event.kind === 'delta')
      const logprobs = deltas.flatMap((event) => event.logprobs ?? [])
      return {
        digest: accepted.adapters[0]!.digest,
        tokens: logprobs.map(({ id, logprob }) => [id, logprob]),
      }
    }
    const old = answerOf(await world.run(withAdapter('alone', 'a1', fields)))
    // Four stand between their third token and their fourth while the adapter is replaced.
    let goOn = () => {}
    const held = new Promise<void>((resolve) => (goOn = resolve))
    let numStanding = 0
    fake.state.beforeToken = (said, body) => {
      if (body.stream !== true || said !== 3) return undefined
      numStanding++
      return held
    }
    const underWay = [1, 2, 3, 4].map((i) => world.run(withAdapter(`under way ${i}`, 'a1', fields)))
    const isSaid = (i: number) =>
      world.eventsOf(`under way ${i}`).some(({ kind }) => kind === 'delta')
    await world.until('four that stand', () => [1, 2, 3, 4].every(isSaid))
    const change = { kind: 'load', id: 'a1', folder: 'staged', replace: true } as const
    await world.engine.changeAdapter({ ...change, digest: null, pinned: null })
    fake.state.beforeToken = undefined
    const after = [5, 6].map((i) => world.run(withAdapter(`after ${i}`, 'a1', fields)))
    const [fresh, other] = (await Promise.all(after)).map(answerOf)
    assert.notEqual(fresh!.digest, old.digest)
    assert.notDeepEqual(fresh!.tokens, old.tokens)
    assert.deepEqual(other, fresh)
    const former = String(fake.completions()[0]!.body.model)
    assert.ok(fake.adapters.has(former))
    goOn()
    for (const events of await Promise.all(underWay)) assert.deepEqual(answerOf(events), old)
    assert.ok(numStanding >= 4)
    // The old version's registration leaves with the last of its answers.
    await untilUnloaded(fake, former)
    // And so for each call: its name did not change on the way.
    const names = fake.completions().map(({ body }) => body.model)
    assert.equal(new Set(names).size, 2)
  })

  it('a folder of that name with other bytes is not registered', async () => {
    const fake = await startFake()
    const world = await start([fake])
    await world.run(withAdapter('1', 'a1'))
    const name = String(fake.completions().at(-1)!.body.model)
    const file = join(world.sharedDir, name, 'adapter_model.safetensors')
    const bytes = readFileSync(file)
    bytes[bytes.length - 1]! ^= 1
    writeFileSync(file, bytes)
    fake.restart()
    const second = await start([fake], { dir: world.dir })
    const failure = failureIn(await second.run(withAdapter('2', 'a1')))
    assert.equal(failure?.code, 'adapter_unavailable')
    assert.equal(fake.adapters.has(name), false)
  })
})

describe('unknown fields and missing models are answered by the base', () => {
  it('every call names its model, and an answer by another is not told', async () => {
    const fake = await startFake()
    const world = await start([fake])
    await world.run(createRequest({ id: '1' }))
    const asked = fake.calls.filter(({ path }) => path === '/v1/completions')
    for (const { body } of asked) assert.ok(body.model)
    fake.state.answersAs = fake.base
    const events = await world.run(withAdapter('2', 'a1'))
    assert.equal(failureIn(events)?.code, 'adapter_unavailable')
    assert.ok(!events.some(({ kind }) => kind === 'delta'))
  })

  it('a stream by another model is not told, either', async () => {
    const fake = await startFake()
    const world = await start([fake])
    await world.run(withAdapter('1', 'a1'))
    fake.state.answersAs = fake.base
    const events = await world.run(withAdapter('2', 'a1'))
    assert.equal(failureIn(events)?.code, 'adapter_unavailable')
    assert.ok(!events.some(({ kind }) => kind === 'delta'))
  })
})

describe('an older one ignores structured_outputs', () => {
  it('the start finds that out, and constrained answers are refused by name', async () => {
    const fake = await startFake({ constrains: false })
    const world = await start([fake])
    assert.ok(world.notices.some((notice) => notice.includes('structured_outputs')))
    assert.equal(world.engine.model.capabilities.constrained, null)
    const form = { constraint: { kind: 'json_object' }, constraintField: 'grammar' } as const
    const failure = failureIn(await world.run(createRequest({ id: '1', ...form })))
    assert.deepEqual([failure?.code, failure?.param], ['unsupported_parameter', 'grammar'])
    assert.equal(failureIn(await world.run(createRequest({ id: '2' }))), null)
  })
})

describe('nothing is checked on load', () => {
  const broken = {
    'another width': { hiddenSize: 100 },
    'missing layers': { layers: [0] },
    'a number that is none': { nan: true },
  }
  for (const [title, fault] of Object.entries(broken)) {
    it(`${title}: our reader refuses it, and it is never registered`, async () => {
      const fake = await startFake()
      const dir = newDir()
      const model = { ...upstreamModel, ...('hiddenSize' in fault ? fault : {}) }
      const layers = 'layers' in fault ? fault.layers : [0, 1, 2]
      const tensors = upTensors({ model, layers })
      if ('nan' in fault) (Object.values(tensors)[0]!.data as Float32Array)[0] = Number.NaN
      writeAdapter(join(dir, 'adapters'), 'bad', { tensors })
      const operatorsAdapters = [{ id: 'bad', scale: null }]
      const world = await start([fake], { dir, options: { operatorsAdapters } })
      const numLoads = fake.loads().length
      assert.equal(failureIn(await world.run(withAdapter('1', 'bad')))?.code, 'invalid_adapter')
      assert.equal(fake.loads().length, numLoads)
    })
  }

  it('an adapter that is taken and not applied is found by its first prompt', async () => {
    const fake = await startFake()
    const world = await start([fake])
    fake.state.applied = 0
    const failure = failureIn(await world.run(withAdapter('1', 'a1')))
    assert.equal(failure?.code, 'adapter_unavailable')
    assert.match(failure!.message, /lora-target-modules/)
    fake.state.applied = 1
    assert.equal(failureIn(await world.run(withAdapter('2', 'a1'))), null)
  })

  it('so is one that makes no numbers', async () => {
    const fake = await startFake()
    const world = await start([fake])
    fake.state.applied = Number.NaN
    assert.equal(failureIn(await world.run(withAdapter('1', 'a1')))?.code, 'adapter_unavailable')
  })
})

describe('a model name is a path to its resolver', () => {
  for (const name of ['../outside', '/etc', 'a1/../a2', '.']) {
    it(`no text of a client is a name there: ${name}`, async () => {
      const fake = await startFake()
      const world = await start([fake])
      const numCalls = fake.calls.length
      const failure = failureIn(await world.run(withAdapter('1', name)))
      assert.equal(failure?.code, 'model_not_found')
      assert.equal(fake.calls.length, numCalls)
    })
  }

  it('names are digests and strengths, folders lie in their place', async () => {
    const fake = await startFake()
    const world = await start([fake])
    await world.run(withAdapter('1', 'a1'))
    for (const { body } of fake.loads()) {
      assert.match(String(body.lora_name), /^[\w.-]+@[\d.]+(\+[\w.-]+@[\d.]+)*$/)
      assert.equal(body.lora_path, join(world.sharedDir, String(body.lora_name)))
    }
    assert.ok(readdirSync(world.sharedDir).every((entry) => !entry.startsWith('.incoming')))
  })
})

describe('rows are not alike in different batches', () => {
  it('greedy choices of one request are, because one is computed', async () => {
    const fake = await startFake()
    const world = await start([fake])
    fake.state.jitter = 4
    const events = await world.run(createRequest({ id: '1', n: 4, maxTokens: 8 }))
    const texts = [0, 1, 2, 3].map((index) =>
      events
        .map((event) => (event.kind === 'delta' && event.index === index ? event.text : ''))
        .join(''),
    )
    assert.equal(new Set(texts).size, 1)
  })
})

describe('rows of the base get the adapter of its last slot', () => {
  const fields = { maxTokens: 6, topLogprobs: 1 }
  const readBase = (id: string) => createRequest({ id, ...fields })
  const told = (events: readonly GenerationEvent[]) => {
    assert.equal(failureIn(events), null)
    const deltas = events.filter((event) => event.kind === 'delta')
    return deltas.flatMap(({ logprobs }) => logprobs?.map(({ id, logprob }) => [id, logprob]))
  }

  /** Streams of adapters stand after their first token until it is called. */
  function holdAdapters(fake: FakeVllm): () => void {
    let goOn = () => {}
    const held = new Promise<void>((resolve) => (goOn = resolve))
    fake.state.beforeToken = (said, body) => {
      const isHeld = body.stream === true && /^[0-9a-f]{24}@/.test(String(body.model)) && said > 0
      return isHeld ? held : undefined
    }
    return goOn
  }

  async function runBeside(fake: FakeVllm, world: World) {
    const goOn = holdAdapters(fake)
    const names = ['a1', 'a2', 'a3']
    const running = names.map((name) => world.run(withAdapter(name, name)))
    const hasBegun = (id: string) => world.eventsOf(id).some(({ kind }) => kind === 'delta')
    await world.until('three that stand', () => names.every(hasBegun))
    return async () => {
      goOn()
      for (const events of await Promise.all(running)) assert.equal(failureIn(events), null)
    }
  }

  it('an adapter that changes nothing is asked in its place, where the start sees it', async () => {
    const right = told(await (await start([await startFake()])).run(readBase('right')))
    const fake = await startFake({ confusesBase: true, maxLoras: 4 })
    const world = await start([fake])
    assert.match(world.notices.join('\n'), /an adapter that changes nothing .* one of its 4 places/)
    const end = await runBeside(fake, world)
    assert.deepEqual(told(await world.run(readBase('beside'))), right)
    assert.match(String(fake.completions().at(-1)!.body.model), /^blank-/)
    await end()
    assert.deepEqual(told(await world.run(readBase('alone'))), right)
  })

  it('asked by its own name where all is well', async () => {
    const fake = await startFake({ maxLoras: 4 })
    const world = await start([fake])
    const end = await runBeside(fake, world)
    await world.run(readBase('beside'))
    assert.equal(fake.completions().at(-1)!.body.model, fake.base)
    assert.doesNotMatch(world.notices.join('\n'), /changes nothing/)
    await end()
  })

  it('a front that starts while adapters run sees the same base', async () => {
    const fake = await startFake({ confusesBase: true, maxLoras: 4 })
    const world = await start([fake])
    const end = await runBeside(fake, world)
    const other = await start([fake], { dir: world.dir })
    await end()
    assert.deepEqual(told(await other.run(readBase('1'))), told(await world.run(readBase('2'))))
  })

  it('with one place they take turns', async () => {
    const fake = await startFake({ confusesBase: true, maxLoras: 1 })
    const world = await start([fake])
    const asked = [readBase('1'), withAdapter('2', 'a1'), readBase('3'), withAdapter('4', 'a2')]
    const all = await Promise.all(asked.map((request) => world.run(request)))
    for (const events of all) assert.equal(failureIn(events), null)
    assert.deepEqual(told(all[0]!), told(all[2]!))
  })
})

describe('one adapter more than its slots waits there', () => {
  it('here it waits, until another may leave: no more are active than fit, and all are answered', async () => {
    const fake = await startFake({ maxLoras: 2 })
    const world = await start([fake])
    const names = ['a1', 'a2', 'a3', 'a4', 'a1', 'a2', 'a3', 'a4']
    const all = await Promise.all(names.map((name, i) => world.run(withAdapter(`${i}`, name))))
    for (const events of all) assert.equal(failureIn(events), null)
    assert.ok(fake.state.mostActive <= 2)
    assert.ok(fake.adapters.size <= 2)
  })

  it('a request that waits for a place can be cancelled', async () => {
    const fake = await startFake({ maxLoras: 1 })
    const world = await start([fake])
    let goOn = () => {}
    const held = new Promise<void>((resolve) => (goOn = resolve))
    fake.state.beforeToken = (said, body) => (body.stream === true && said === 1 ? held : undefined)
    const first = world.run(withAdapter('1', 'a1'))
    await world.until('a delta', () => world.eventsOf('1').some(({ kind }) => kind === 'delta'))
    const second = world.run(withAdapter('2', 'a2'))
    await world.until('both', () => world.eventsOf('2').length > 0)
    world.engine.cancel('2')
    assert.equal((await second).at(-1)?.kind, 'cancelled')
    goOn()
    assert.equal((await first).at(-1)?.kind, 'done')
  })
})

describe('an adapter that another front has unloaded', () => {
  it('it is registered again, once, and the request does not notice', async () => {
    const fake = await startFake()
    const world = await start([fake])
    await world.run(withAdapter('1', 'a1'))
    fake.adapters.clear()
    const numLoads = fake.loads().length
    assert.equal(failureIn(await world.run(withAdapter('2', 'a1'))), null)
    assert.equal(fake.loads().length, numLoads + 1)
  })

  it('for many requests at once, too', async () => {
    const fake = await startFake()
    const world = await start([fake])
    await world.run(withAdapter('1', 'a1'))
    fake.adapters.clear()
    const numLoads = fake.loads().length
    const all = Array.from({ length: 6 }, (_, i) => world.run(withAdapter(`again ${i}`, 'a1')))
    for (const events of await Promise.all(all)) assert.equal(failureIn(events), null)
    assert.equal(fake.loads().length, numLoads + 1)
  })
})

describe('the list of pitfalls in docs/SCALE-OUT.md', () => {
  it('names a test for each, which is here', () => {
    const page = readFileSync(join(sourceRoot, 'docs', 'SCALE-OUT.md'), 'utf8')
    const table = /\n\| what vLLM does \|.*\n\| -.*\n((?:\|.*\n)+)/.exec(page)![1]!
    const tests = table
      .trim()
      .split('\n')
      .map((row) => row.split('|').at(-2)!.trim())
    assert.ok(tests.length >= 7)
    const own = readFileSync(join(sourceRoot, 'test', 'upstream-pitfalls.test.ts'), 'utf8')
    for (const name of tests) {
      const file = /^`(test\/.*\.test\.ts)`$/.exec(name)?.[1]
      const isThere =
        file === undefined ? own.includes(`describe('${name}'`) : existsSync(join(sourceRoot, file))
      assert.ok(isThere, name)
    }
  })
})
