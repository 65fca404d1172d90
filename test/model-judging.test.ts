// Judging on the real model, through the whole engine: what is generated is the same, bit for bit, with
// judging and without; an escalated reply and one whose adapters change are those of a model that runs
// the same tokens one after the other, alone.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it, test } from 'node:test'
import { findAdapterFolder } from '../server/adapters/adapter-folder.ts'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import type { AdapterRef, ScaledRankOne } from '../server/contracts/adapter.ts'
import { inLayerOrder, type Kernels } from '../server/contracts/checkpoint.ts'
import type { EngineOptions, TokenizeInput } from '../server/contracts/engine.ts'
import {
  type GenerateRequest,
  type GenerationEvent,
  isTerminal,
  type Prompt,
} from '../server/contracts/generation.ts'
import type { SafetyPlan } from '../server/contracts/safety.ts'
import { readBase } from '../server/conversion/base.ts'
import { type OpenEngine, openEngine } from '../server/engine/open.ts'
import { formatOf } from '../server/engine/weights.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { type GuardOfFolder, readGuard } from '../server/guards/guard-folder.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { probabilityOf } from '../server/safety/guard.ts'
import { logprobsOf } from '../server/sampling/logprobs.ts'
import { within } from './support/deadline.ts'
import { writeGuard } from './support/guard-folder.ts'
import { root } from './support/root.ts'
import { createRequest } from './support/scripted-model.ts'
import { openServedModel } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { loraTensors, writeAdapter } from './support/tensor-files.ts'

const temp = createTempFolder()
const reasoner = join(root, 'models', 'tiny-reasoner')
const adapters = join(temp, 'adapters')
const cacheDir = join(temp, 'cache')
mkdirSync(adapters)
mkdirSync(cacheDir)

const temperature = 1.2
const { guard, modules: guardModules } = await writeAdapters()

/** Two that the project trained, one of random numbers that changes every logit, and a guard. */
async function writeAdapters(): Promise<GuardOfFolder> {
  const checkpoint = openCheckpoint(reasoner)
  const { config: model } = checkpoint
  const { digest } = await readBase({ dir: reasoner, checkpoint, cacheDir })
  checkpoint.close()
  for (const id of ['safety-r1', 'terse-r1']) {
    cpSync(join(root, 'adapters', id), join(adapters, id), { recursive: true })
  }
  const layers = Array.from({ length: model.numLayers }, (_, layer) => layer)
  const tensors = loraTensors({ rank: 2, layers, modules: ['up_proj'], seed: 2, model })
  writeAdapter(adapters, 'random', { config: { r: 2, lora_alpha: 0.3 }, tensors })
  const marks = { token: 799, labels: { safe: 15, unsafe: 16 } }
  const carriers = [{ adapters: [], auroc: 0.9, temperature, threshold: 0.5, n: 100 }]
  writeGuard(adapters, 'judge', {
    ...{ ...marks, model, baseDigest: digest, rank: 16 },
    guard: { temperature, carriers },
  })
  const folder = findAdapterFolder(adapters, 'judge')!
  const base = {
    ...{ model, digest, merged: [], isAdded: () => true, tokenText: () => 'a text' },
    isExact: false,
  }
  return await readGuard(folder, base)
}

interface World {
  readonly title: string
  readonly weights: 'fp32' | 'int8' | 'int4'
  readonly kernels: Kernels
}

const worlds: readonly World[] = [
  { title: 'fp32, own kernels', weights: 'fp32', kernels: 'own' },
  { title: 'int8, own kernels', weights: 'int8', kernels: 'own' },
  { title: 'int4, own kernels', weights: 'int4', kernels: 'own' },
  { title: "fp32, ONNX Runtime's kernels", weights: 'fp32', kernels: 'onnxruntime' },
]
const maxContext = 256

async function open(
  { weights, kernels }: World,
  choice: EngineOptions['guard'],
  guardExact = false,
) {
  const told = new Map<string, GenerationEvent[]>()
  const ends = new Map<string, ReturnType<typeof createDeferred<void>>>()
  const ignore = () => {}
  const options: EngineOptions = {
    ...{ model: reasoner, servedModelName: 'reasoner', adapters, guard: choice, cacheDir },
    ...{
      operatorsAdapters: [],
      adapterModules: [],
      upstream: null,
      scansAdapters: true,
      merged: [],
      acceptsOtherBases: false,
      guardExact,
    },
    ...{ device: 'cpu', onnxruntime: null, kernels, weights, kvCacheDtype: 'auto' },
    ...{ weightBlock: null, weightZeroPoints: null, maxBatch: 4, maxContext, threads: 1 },
    ...{ kvMemoryBytes: null, maxAdapterRank: 4, adapterMemoryBytes: null },
  }
  const engine = await openEngine(options, {
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

  /** All at once. */
  async function ask(requests: readonly GenerateRequest[]) {
    for (const request of requests) {
      told.set(request.id, [])
      ends.set(request.id, createDeferred())
      void engine.submit(request)
    }
    for (const { id } of requests) await within(60_000, `end of ${id}`, ends.get(id)!.promise)
    for (const { id } of requests) assert.equal(told.get(id)!.at(-1)!.kind, 'done', id)
    return requests.map(({ id }) => told.get(id)!)
  }
  return { engine, ask }
}

const chat = (content: string): Prompt => ({
  kind: 'messages',
  messages: [{ role: 'user', content }],
})

function plan(mode: SafetyPlan['reply'], fields: Partial<SafetyPlan> = {}): SafetyPlan {
  const rest = { threshold: 1.1, escalation: null, failure: 'closed' } as const
  return { input: mode, reply: mode, every: 5, ...rest, ...fields }
}

const sum = 'Mia has 12 pears and buys 30 more. How many pears does Mia have?'
const questions = [sum, 'What color is a lemon?', 'How do I clean a kettle?', `${sum} Explain.`]
const carriers: ReadonlyArray<readonly AdapterRef[]> = [
  [],
  [{ id: 'safety-r1', scale: 1 }],
  [{ id: 'random', scale: 1 }],
  [
    { id: 'terse-r1', scale: 0.5, span: 'thought' },
    { id: 'random', scale: 0.5, span: 'answer' },
  ],
  [{ id: 'safety-r1', scale: 2, span: 'answer' }],
]

/** More than there are rows: with adapters of their own, choices, beginnings in common. */
function mixed(safety: (i: number) => SafetyPlan | null): GenerateRequest[] {
  return Array.from({ length: 10 }, (_, i) =>
    createRequest({
      id: `r${i}`,
      prompt: chat(questions[i % questions.length]!),
      adapters: carriers[i % carriers.length]!,
      n: i === 3 ? 2 : 1,
      maxTokens: 24 + 3 * i,
      topLogprobs: 2,
      splitReasoning: true,
      safety: safety(i),
      sampling: { temperature: i % 2, seed: BigInt(i), ignoreEos: i % 3 === 0 },
    }),
  )
}

const generated = (events: readonly GenerationEvent[]) =>
  [0, 1].map((index) =>
    events.filter((event) => {
      const isSaid = event.kind === 'delta' || event.kind === 'choice_finished'
      return isSaid && event.index === index
    }),
  )

const verdictsOf = (events: readonly GenerationEvent[]) =>
  events.filter((event) => event.kind === 'verdict')

/** Of each token that was told: the token, and its numbers. */
function numbersOf(events: readonly GenerationEvent[]) {
  const tokens = events.flatMap((event) => (event.kind === 'delta' ? (event.logprobs ?? []) : []))
  return tokens.map(({ id, logprob, top }) => ({
    sampled: { id, logprob },
    top: top.map((other) => ({ id: other.id, logprob: other.logprob })),
  }))
}

type DistributiveOmit<T, K extends keyof T> = T extends unknown ? Omit<T, K> : never
type Model = Awaited<ReturnType<typeof openServedModel>>
type Components = readonly ScaledRankOne[]

/** The likeliest tokens, alone in a row; P(unsafe) after each of them, and after the prompt. */
async function runAlone(
  { runner }: Model,
  prompt: readonly number[],
  count: number,
  setAt: (tokens: readonly number[]) => Components,
) {
  const tokens: number[] = []
  const numbers: ReturnType<typeof numbersOf> = []
  const scores: number[] = []
  async function judge(): Promise<void> {
    const past = prompt.length + tokens.length
    const found = await runner.verdict([{ token: guard.token, past }], guard.components)
    scores.push(probabilityOf(found, guard.labels, temperature))
  }
  const first = { row: 0, tokens: prompt, past: 0, components: setAt([]), numLogits: 1 }
  let logits = (await runner.prefill(first)).slice()
  await judge()
  while (tokens.length < count) {
    const [best] = logprobsOf(logits, 0, 1).top
    const { sampled, top } = logprobsOf(logits, best!.id, 2)
    numbers.push({ sampled, top })
    const past = prompt.length + tokens.length
    const components = setAt(tokens)
    tokens.push(best!.id)
    logits = (await runner.decode([{ token: best!.id, past, components }])).slice()
    await judge()
  }
  return { numbers, scores }
}

for (const world of worlds) testWorld(world)

function testWorld(world: World): void {
  const { title, weights, kernels } = world
  const skip = kernels === 'own' && ownKernels() === null && 'own kernels are not built here'
  describe(`judging: ${title}`, { skip }, () => {
    let engine: OpenEngine
    let ask: Awaited<ReturnType<typeof open>>['ask']
    let model: Model

    before(async () => {
      ;({ engine, ask } = await open(world, 'auto'))
      model = await openServedModel({
        checkpoint: reasoner,
        ...{ adapters, cacheDir, kernels, rows: 1, capacity: maxContext },
        format: formatOf(weights, { weightBlock: null, weightZeroPoints: null }),
        // One graph for all: the engine's verdicts have one of their own.
        sites: inLayerOrder(engine.model.adapterModules, guardModules),
      })
    })
    after(() => {
      engine.close()
      model.close()
    })

    async function tokenize(input: DistributiveOmit<TokenizeInput, 'withTokenStrings'>) {
      const turn = { client: 'client', request: 'tokens' }
      const { tokens } = await engine.tokenize({
        input: { ...input, withTokenStrings: false },
        turn,
      })
      return JSON.parse(tokens) as number[]
    }

    function promptOf(content: string): Promise<number[]> {
      const messages = [{ role: 'user', content }] as const
      return tokenize({ kind: 'messages', messages, addGenerationPrompt: true })
    }

    it('observe, and block where nothing is flagged, change no bit of what is generated', async () => {
      const never = await open(world, 'none')
      const want = (await never.ask(mixed(() => null))).map(generated)
      never.engine.close()
      const plans: Readonly<Record<string, (i: number) => SafetyPlan | null>> = {
        'a guard that judges nothing': () => null,
        observe: (i) => plan('observe', { every: 1 + i, threshold: 0 }),
        block: (i) => plan('block', { every: 1 + 2 * i }),
        'each beside the others': (i) => [null, plan('observe'), plan('escalate')][i % 3]!,
      }
      for (const [name, planOf] of Object.entries(plans)) {
        const requests = mixed(planOf)
        for (const [i, events] of (await ask(requests)).entries()) {
          assert.deepEqual(generated(events), want[i], `${name}, request ${i}`)
          const scores = verdictsOf(events).map(({ score }) => score)
          assert.equal(scores.length > 2, requests[i]!.safety !== null, `${name}, request ${i}`)
          assert.ok(scores.every((score) => score !== null && score > 0 && score < 1))
        }
      }
      assert.ok(want.some(([zero]) => zero!.some(({ kind }) => kind === 'choice_finished')))
    })

    /** A request for the likeliest tokens. */
    const greedy = (fields: Parameters<typeof createRequest>[0]) =>
      createRequest({
        ...{ id: 'it', prompt: chat(sum), maxTokens: 72, topLogprobs: 2, splitReasoning: true },
        sampling: { ignoreEos: true },
        ...fields,
      })

    /** With others beside it. */
    async function askBeside(request: GenerateRequest) {
      const others = mixed((i) => plan('observe', { every: 2 + i }))
      const [events] = await ask([request, ...others])
      return events!
    }

    const own = [{ id: 'safety-r1', scale: 0.5 }] as const
    const escalation = { id: 'random', scale: 1.5 }

    /** Flagged where a score is larger than all before it: how many tokens came before and after. */
    async function checkEscalation(prompt: string, every: number) {
      const fields = { prompt: chat(prompt), adapters: own }
      const reply = { input: 'off', every, escalation } as const
      const [observed] = await ask([greedy({ ...fields, safety: plan('observe', reply) })])
      const places = verdictsOf(observed!)
      const rise = places.findIndex(({ score }, i) => {
        return i > 0 && places.slice(0, i).every((before) => before.score! < score!)
      })
      if (rise < 0) return { kept: 0, numAfter: 0 }
      const threshold = places[rise]!.score
      const kept = places[rise - 1]!.scoredTokens
      const safety = plan('escalate', { ...reply, threshold })
      const events = await askBeside(greedy({ ...fields, safety }))
      const escalated = events.find((event) => event.kind === 'escalated')
      assert.equal(escalated?.keptTokens, kept)
      const ids = escalated.adapters.map(({ id, scale }) => `${id} ${scale}`)
      assert.deepEqual(ids, ['safety-r1 0.5', 'random 1.5'])

      const tokens = await promptOf(prompt)
      const before = await model.components({ 'safety-r1': 0.5 })
      const raised = await model.components({ 'safety-r1': 0.5, random: 1.5 })
      const never = await runAlone(model, tokens, 72, () => before)
      const alone = await runAlone(model, tokens, 72, ({ length }) => {
        return length < kept ? before : raised
      })
      const told = numbersOf(events)
      assert.deepEqual(told, alone.numbers.slice(0, told.length))
      const numBefore = verdictsOf(events.slice(0, events.indexOf(escalated))).length
      for (const [i, { scoredTokens, score }] of verdictsOf(events).entries()) {
        const { scores } = i < numBefore ? never : alone
        assert.equal(score, scores[scoredTokens], `after ${scoredTokens} tokens`)
      }
      const isOther = JSON.stringify(told) !== JSON.stringify(never.numbers.slice(0, told.length))
      return { kept, numAfter: isOther ? told.length - kept : 0 }
    }

    it('an escalated reply is its prefix, gone on with the adapter', async () => {
      const most = { kept: 0, numAfter: 0 }
      for (const prompt of questions) {
        for (const every of [5, 12]) {
          const { kept, numAfter } = await checkEscalation(prompt, every)
          most.kept = Math.max(most.kept, kept)
          most.numAfter = Math.max(most.numAfter, numAfter)
        }
      }
      assert.ok(most.kept >= 5 && most.numAfter >= 8, JSON.stringify(most))
    })

    it('a flagged prompt is computed anew with the adapter', async () => {
      const safety = plan('escalate', { reply: 'off', threshold: 0, escalation })
      const events = await askBeside(greedy({ safety }))
      assert.equal(events.find((event) => event.kind === 'escalated')?.keptTokens, 0)
      const raised = await model.components({ random: 1.5 })
      const { numbers } = await runAlone(model, await promptOf(sum), 72, () => raised)
      assert.deepEqual(numbersOf(events), numbers)
    })

    it('adapters of thought and answer act there, up to the token', async () => {
      const spans: readonly AdapterRef[] = [
        { id: 'terse-r1', scale: 0.5, span: 'thought' },
        { id: 'random', scale: 0.2, span: 'answer' },
        { id: 'safety-r1', scale: 0.5 },
      ]
      const safety = plan('block', { every: 6 })
      const events = await askBeside(greedy({ adapters: spans, maxTokens: 120, safety }))
      const text = '</think>'
      const [thoughtEnd] = await tokenize({ kind: 'text', text, addSpecialTokens: false })
      const thought = await model.components({ 'terse-r1': 0.5, 'safety-r1': 0.5 })
      const answer = await model.components({ random: 0.2, 'safety-r1': 0.5 })
      const { numbers, scores } = await runAlone(model, await promptOf(sum), 120, (tokens) => {
        return tokens.includes(thoughtEnd!) ? answer : thought
      })
      const told = numbersOf(events)
      const end = told.findIndex(({ sampled }) => sampled.id === thoughtEnd)
      assert.ok(end > 5 && end < 100, `a thought of ${end} tokens`)
      assert.deepEqual(told, numbers)
      const judged = verdictsOf(events)
      assert.ok(judged.some(({ scoredTokens }) => scoredTokens === end + 1))
      for (const { scoredTokens, score } of judged) assert.equal(score, scores[scoredTokens])
    })
  })
}

test('a guard that is exact says of adapted text what it says of the same text on the base', async () => {
  const [world] = worlds
  const kernels = ownKernels() === null ? 'onnxruntime' : 'own'
  const { engine, ask } = await open({ ...world!, kernels }, 'auto', true)
  const model = await openServedModel({
    checkpoint: reasoner,
    ...{ adapters, cacheDir, kernels, rows: 1, capacity: maxContext, format: { kind: 'fp32' } },
    sites: inLayerOrder(engine.model.adapterModules, guardModules),
  })
  try {
    const prompt = Array.from({ length: 40 }, (_, i) => 20 + ((i * 37) % 600))
    const request = {
      prompt: { kind: 'tokens', tokens: prompt } as const,
      adapters: [{ id: 'random', scale: 1 }],
      ...{ maxTokens: 24, topLogprobs: 1, safety: plan('block') },
      sampling: { ignoreEos: true },
    }
    const ids = Array.from({ length: 6 }, (_, i) => `r${i}`)
    const answers = await ask(ids.map((id) => createRequest({ ...request, id })))
    for (const events of answers) {
      const reply = numbersOf(events).map(({ sampled }) => sampled.id)
      const verdicts = verdictsOf(events)
      // The probe asks for more of them.
      const places = verdicts.map(({ scoredTokens }) => scoredTokens)
      for (const place of [0, 5, 10, 15, 20, 24]) assert.ok(places.includes(place), `${places}`)
      for (const { scoredTokens, score, certified } of verdicts) {
        const tokens = [...prompt, ...reply.slice(0, scoredTokens)]
        await model.runner.prefill({ row: 0, tokens, past: 0, components: [] })
        const asked = [{ token: guard.token, past: tokens.length }]
        const found = await model.runner.verdict(asked, guard.components)
        assert.equal(score, probabilityOf(found, guard.labels, temperature))
        assert.equal(certified, true)
      }
    }
  } finally {
    engine.close()
    model.close()
  }
})
