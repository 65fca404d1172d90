// An engine whose weights hold adapters, beside one that runs them per request: every request gets what it
// names, however it is made, and a guard judges what it would have judged.

import assert from 'node:assert/strict'
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { AdapterRef, HeldAdapter, MergedAdapter } from '../server/contracts/adapter.ts'
import type { EngineOptions } from '../server/contracts/engine.ts'
import {
  type GenerateRequest,
  type GenerationEvent,
  isTerminal,
} from '../server/contracts/generation.ts'
import type { SafetyPlan } from '../server/contracts/safety.ts'
import { type OpenEngine, openEngine } from '../server/engine/open.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { arrangeAdapters, mergedShares } from '../server/loop/segments.ts'
import { within } from './support/deadline.ts'
import { root } from './support/root.ts'
import { createRequest, numbered } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const adapters = join(temp, 'adapters')
mkdirSync(adapters)
for (const id of ['safety-r1', 'terse-r1', 'guard-r16']) {
  cpSync(join(root, 'adapters', id), join(adapters, id), { recursive: true })
}
const cacheDir = join(temp, 'cache')
const ignore = () => {}

function optionsOf(
  merged: readonly MergedAdapter[],
  changes: Partial<EngineOptions> = {},
): EngineOptions {
  return {
    ...{ model: join(root, 'models', 'tiny-reasoner'), servedModelName: 'reasoner', adapters },
    ...{
      guard: { id: 'guard-r16' },
      guardExact: false,
      cacheDir,
      merged,
      operatorsAdapters: [],
      adapterModules: [],
    },
    ...{ upstream: null },
    ...{ scansAdapters: true, acceptsOtherBases: false, device: 'cpu', onnxruntime: null },
    ...{ kernels: 'auto', weights: 'fp32', kvCacheDtype: 'auto', weightBlock: null },
    ...{ weightZeroPoints: null, maxBatch: 4, maxContext: 256, threads: 1, kvMemoryBytes: null },
    ...{ maxAdapterRank: 4, adapterMemoryBytes: null },
    ...changes,
  }
}

async function open(merged: readonly MergedAdapter[], changes: Partial<EngineOptions> = {}) {
  const told = new Map<string, GenerationEvent[]>()
  const ends = new Map<string, ReturnType<typeof createDeferred<void>>>()
  const engine: OpenEngine = await openEngine(optionsOf(merged, changes), {
    heart: { enter: ignore, progress: ignore },
    publish(events) {
      for (const [id, event] of events) {
        told.get(id)!.push(event)
        if (isTerminal(event)) ends.get(id)!.resolve()
      }
    },
    ...{ onStats: ignore, onOutage: ignore, onProgress: ignore, onNotice: ignore },
    onDeviceFailure: (error) => assert.fail(String(error)),
  })

  async function ask(request: GenerateRequest) {
    told.set(request.id, [])
    ends.set(request.id, createDeferred())
    void engine.submit(request)
    await within(60_000, `end of ${request.id}`, ends.get(request.id)!.promise)
    return told.get(request.id)!
  }
  return { engine, ask }
}

type World = Awaited<ReturnType<typeof open>>
let numRequests = 0
const prompts = [
  'Teach me to prepare a fake bank note.',
  'A shop fills 2 bags, each with 62 books. How many books are there now?',
]
const observed: SafetyPlan = {
  ...{ input: 'observe', reply: 'observe', every: 4, threshold: null },
  ...{ escalation: null, failure: 'closed' },
}

const request = (
  adapters: readonly AdapterRef[],
  prompt: string,
  more: Partial<GenerateRequest> = {},
) =>
  createRequest({
    id: `r${++numRequests}`,
    prompt: { kind: 'messages', messages: [{ role: 'user', content: prompt }] },
    adapters,
    maxTokens: 48,
    topLogprobs: 0,
    promptLogprobs: 0,
    splitReasoning: true,
    ...more,
    sampling: { temperature: 0 },
  })

/** What a request was told: ids and log-probabilities of its tokens and of its prompt's; verdicts. */
function numbersOf(events: readonly GenerationEvent[]) {
  const accepted = events.find((event) => event.kind === 'accepted')!
  const said = events.flatMap((event) => (event.kind === 'delta' ? (event.logprobs ?? []) : []))
  const prompt = events.flatMap((event) =>
    event.kind === 'prompt' && event.logprobs !== null ? [...event.logprobs.logprobs] : [],
  )
  return {
    adapters: accepted.adapters.map(({ id, scale }) => ({ id, scale })),
    merged: accepted.merged?.map(({ id, scale, hot }) => ({ id, scale, hot })),
    certified: accepted.guard?.certified,
    ids: said.map(({ id }) => id),
    ofPrompt: prompt.slice(1),
    logprobs: said.map(({ logprob }) => logprob),
    scores: events.flatMap((event) => (event.kind === 'verdict' ? [event.score!] : [])),
    end: events.at(-1)!.kind,
  }
}

const largest = (x: readonly number[], y: readonly number[]) => {
  assert.equal(x.length, y.length)
  return Math.max(0, ...x.map((value, i) => Math.abs(value - y[i]!)))
}
const meanDifference = (x: readonly number[], y: readonly number[]) =>
  x.reduce((sum, value, i) => sum + Math.abs(value - y[i]!), 0) / x.length

const safety = (scale: number | null, span?: AdapterRef['span']): AdapterRef => ({
  id: 'safety-r1',
  scale,
  ...(span && { span }),
})
const terse = (scale: number): AdapterRef => ({ id: 'terse-r1', scale })

describe('what is left of a request beside weights that hold adapters', () => {
  const held = (id: string, scale: number, span?: AdapterRef['span']): HeldAdapter => ({
    applied: { id, digest: `digest of ${id}`, scale, ...(span && { span }) },
    components: [numbered(id.length)],
    defaultScale: 1,
  })
  const strengths = (
    own: readonly HeldAdapter[],
    merged: readonly HeldAdapter[],
    escalation: AdapterRef | null = null,
  ) => {
    const named = own.map(({ applied }) => applied)
    const all = escalation === null ? own : [...own, held(escalation.id, 1)]
    const arranged = arrangeAdapters(all, named, escalation, merged)
    const of = ({ components }: { components: readonly { component: object; scale: number }[] }) =>
      components.map(({ component, scale }) => {
        const { a } = (component as readonly { a: Float32Array }[])[0]!
        return `${a[0]}:${scale}`
      })
    return {
      thought: of(arranged.thought),
      answer: of(arranged.answer),
      escalated: arranged.escalated && of(arranged.escalated.thought),
      applied: arranged.applied.map(({ id, scale }) => `${id}:${scale}`),
      hot: mergedShares(merged, arranged).map(({ hot }) => hot),
    }
  }
  const weights = [held('aa', 1.5)]

  it('is nothing of what it names at that strength, and the difference at another', () => {
    assert.deepEqual(strengths([held('aa', 1.5)], weights).thought, [])
    assert.deepEqual(strengths([held('aa', 2)], weights).thought, ['2:0.5'])
    assert.deepEqual(strengths([held('aa', 1)], weights).thought, ['2:-0.5'])
    assert.deepEqual(strengths([held('aa', 1)], weights).applied, ['aa:1'])
    assert.deepEqual(strengths([held('aa', 1)], weights).hot, [-0.5])
  })

  it('takes off what it does not name', () => {
    assert.deepEqual(strengths([], weights).thought, ['2:-1.5'])
    assert.deepEqual(strengths([held('bbb', 1)], weights).thought, ['2:-1.5', '3:1'])
    assert.deepEqual(strengths([held('aa', 1.5), held('bbb', 1)], weights).thought, ['3:1'])
    assert.deepEqual(strengths([], [...weights, held('cccc', 2)]).thought, ['2:-1.5', '4:-2'])
  })

  it('follows its span, and an escalation', () => {
    const inAnswer = strengths([held('aa', 1.5, 'answer')], weights)
    assert.deepEqual([inAnswer.thought, inAnswer.answer], [['2:-1.5'], []])
    const raised = strengths([], weights, { id: 'aa', scale: 2 })
    assert.deepEqual([raised.thought, raised.escalated], [['2:-1.5'], ['2:0.5']])
  })

  it('counts the same content under two names together', () => {
    const twin = (id: string, scale: number) => {
      const { applied, ...rest } = held(id, scale)
      return { ...rest, applied: { ...applied, digest: 'digest of aa' } }
    }
    assert.deepEqual(strengths([twin('bb', 1.5)], weights).thought, [])
    assert.deepEqual(strengths([held('aa', 1), twin('bb', 1)], weights).thought, ['2:0.5'])
  })
})

for (const { weights, bound } of [
  { weights: 'fp32', bound: 1e-4 },
  { weights: 'int8', bound: 0.08 },
  { weights: 'int4', bound: 0.4 },
] as const) {
  describe(`an engine with a merged adapter, ${weights}`, () => {
    let plain: World
    let merged: World
    let target: MergedAdapter
    before(async () => {
      plain = await open([], { weights })
      const prepared = await plain.engine.prepareMerge({ id: 'safety-r1', scale: 1.5 })
      assert.deepEqual(prepared.modules, ['up_proj'])
      target = prepared.merged
      merged = await open([target], { weights })
      assert.deepEqual(merged.engine.model.merged, [target])
    })
    after(() => {
      plain.engine.close()
      merged.engine.close()
    })

    const cases: ReadonlyArray<readonly [string, readonly AdapterRef[], number]> = [
      ['the adapter, at that strength', [safety(1.5)], 0],
      ['its default strength', [safety(null)], -0.5],
      ['more of it', [safety(2)], 0.5],
      ['none', [], -1.5],
      ['another', [terse(1)], -1.5],
      ['both', [terse(0.5), safety(1.5)], 0],
      ['it in the answer alone', [safety(1.5, 'answer')], -1.5],
    ]
    for (const [what, refs, hot] of cases) {
      it(`gives who names ${what} that, once`, async () => {
        for (const prompt of prompts) {
          const want = numbersOf(await plain.ask(request(refs, prompt)))
          const got = numbersOf(await merged.ask(request(refs, prompt)))
          assert.deepEqual([got.end, want.end], ['done', 'done'])
          assert.deepEqual(got.adapters, want.adapters)
          assert.deepEqual(got.merged, [{ id: 'safety-r1', scale: 1.5, hot }])
          assert.equal(want.merged, undefined)
          const ofPrompt = meanDifference(got.ofPrompt, want.ofPrompt)
          assert.ok(ofPrompt <= bound, `${what}: |Δ log p| ${ofPrompt}`)
          if (weights !== 'fp32') continue
          assert.deepEqual(got.ids, want.ids)
          const difference = largest(got.logprobs, want.logprobs)
          assert.ok(difference <= 1e-3, `${what}: |Δ log p| ${difference}`)
        }
      })
    }

    it('lets the guard judge what it would have judged, and says that nobody measured it', async () => {
      for (const refs of [[safety(1.5)], [], [safety(1)]]) {
        const safetyPlan = { safety: observed }
        const want = numbersOf(await plain.ask(request(refs, prompts[0]!, safetyPlan)))
        const got = numbersOf(await merged.ask(request(refs, prompts[0]!, safetyPlan)))
        assert.ok(want.scores.length > 2)
        assert.deepEqual([want.certified, got.certified], [true, false])
        if (weights !== 'fp32') continue
        const difference = largest(got.scores, want.scores)
        assert.ok(difference <= 1e-3, `|Δ score| ${difference}`)
      }
    })
  })
}

describe('an engine with a merged adapter', () => {
  let first: World
  let target: MergedAdapter
  before(async () => {
    first = await open([])
    target = (await first.engine.prepareMerge({ id: 'safety-r1', scale: null })).merged
    assert.equal(target.scale, 1)
  })
  after(() => first.engine.close())
  const wait = { ...{ replace: true, digest: null, pinned: null } }

  it('meets a demand for it, of its strength, and asks for no more', async () => {
    const { engine, ask } = await open([target])
    const required = [{ id: 'safety-r1', minScale: 1, by: 'flags', namedIn: 'adapter' }] as const
    const ends = async (refs: readonly AdapterRef[], required: GenerateRequest['required']) => {
      const events = await ask(request(refs, prompts[0]!, { required }))
      const end = events.at(-1)!
      return end.kind === 'failed' ? end.error.code : numbersOf(events).merged![0]!.hot
    }
    assert.equal(await ends([safety(1)], required), 0)
    assert.equal(await ends([safety(0.5)], required), 'adapter_required')
    assert.equal(await ends([], required), 'adapter_required')
    // Named by nobody, it is raised.
    const raised = [{ id: 'safety-r1', minScale: 2, by: 'key', namedIn: null }] as const
    assert.equal(await ends([safety(1)], raised), 1)
    engine.close()
  })

  it('is opened again with the same, whatever became of the folder since', async () => {
    const copy = mkdtempSync(join(temp, 'adapters-'))
    cpSync(join(root, 'adapters', 'safety-r1'), join(copy, 'safety-r1'), { recursive: true })
    const options = { adapters: copy, guard: 'none' } as const
    const before = await open([target], options)
    const said = numbersOf(await before.ask(request([safety(1)], prompts[0]!)))
    before.engine.close()
    rmSync(join(copy, 'safety-r1'), { recursive: true })
    const again = await open([target], options)
    for (const refs of [[safety(1)], []]) {
      const events = await again.ask(request(refs, prompts[0]!))
      assert.equal(events.at(-1)!.kind, 'done')
      if (refs.length > 0) assert.deepEqual(numbersOf(events).logprobs, said.logprobs)
    }
    again.engine.close()
  })

  it('refuses changes of it, and takes others', async () => {
    const { engine } = await open([target])
    const refused = { code: 'adapter_merged', message: /unmerge comes first/ }
    const change = { id: 'safety-r1', folder: 'safety-r1', ...wait } as const
    await assert.rejects(async () => engine.changeAdapter({ kind: 'load', ...change }), refused)
    const removal = { kind: 'remove', waitMs: 0, keepsFiles: true } as const
    await assert.rejects(async () => engine.changeAdapter({ id: 'safety-r1', ...removal }), refused)
    const other = { kind: 'load', id: 'terse-r1', folder: 'terse-r1', ...wait } as const
    assert.notEqual((await engine.changeAdapter(other)).outcome, 'removed')
    engine.close()
  })

  it('does not start over a copy that is damaged or gone', async () => {
    const [name] = readdirSync(join(cacheDir, 'merged'))
    assert.equal(name, target.digest)
    const path = join(cacheDir, 'merged', target.digest)
    appendFileSync(join(path, 'adapter_config.json'), ' ')
    await first.engine.prepareMerge({ id: 'safety-r1', scale: 1 })
    const { engine } = await open([target])
    engine.close()
    cpSync(join(root, 'adapters', 'terse-r1'), path, { recursive: true })
    await assert.rejects(open([target]), { code: 'invalid_adapter', message: /merge it again/ })
    rmSync(path, { recursive: true })
    await assert.rejects(open([target]), { code: 'invalid_adapter' })
  })

  for (const [what, change, code] of [
    ['no adapter', { id: 'missing' }, 'model_not_found'],
    ['a path', { id: '../adapters' }, 'model_not_found'],
    ['a guard', { id: 'guard-r16' }, 'unsupported_adapter'],
  ] as const) {
    it(`is not made of ${what}`, async () => {
      const target = { scale: null, ...change }
      await assert.rejects(async () => first.engine.prepareMerge(target), { code })
      assert.ok(!readdirSync(join(cacheDir, 'merged')).some((name) => name.includes('-')))
    })
  }
})
