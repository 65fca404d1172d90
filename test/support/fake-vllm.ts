// A server with vLLM's shapes and vLLM's faults (docs/SCALE-OUT.md has the list), over a model that is a
// function of its tokens and of the adapter's tensors as they were when it was loaded. It checks nothing that
// vLLM does not check.

import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { openSafetensors } from '../../server/checkpoint/safetensors.ts'
import { createRandomNumbers } from './random-numbers.ts'

export const fakeVocab = 306
export const fakeEnd = 301

export interface FakeVllmOptions {
  readonly base?: string
  readonly maxLoras?: number
  readonly maxRank?: number
  readonly maxContext?: number
  /** Told in /metrics. */
  readonly tellsSlots?: boolean
  readonly loadsAtRuntime?: boolean
  readonly tellsCached?: boolean
  /** As where no --lora-target-modules are given: prompt_logprobs beside another request end it. */
  readonly preparesHead?: boolean
  /** As on a processor: rows of the base get the adapter of the last slot while another row has one. */
  readonly confusesBase?: boolean
  /** An older one ignores structured_outputs, as every field that it does not know. */
  readonly constrains?: boolean
  /** Another base gives other numbers. */
  readonly seed?: number
  /** As vLLM encodes; bytes by default. */
  readonly encode?: (text: string) => readonly number[]
  /** The next token of a context; the model's own greedy choice by default. */
  readonly next?: (prompt: readonly number[], said: readonly number[]) => number | null
  readonly port?: number
}

interface Loaded {
  readonly name: string
  readonly path: string
  readonly rank: number
  readonly effect: number
}

export interface FakeCall {
  readonly path: string
  readonly body: Record<string, unknown>
}

export type FakeVllm = Awaited<ReturnType<typeof startFakeVllm>>

/** Linear in B, so that strengths and sums act as they do. */
function effectOf(path: string, preparesHead: boolean): { rank: number; effect: number } {
  const file = openSafetensors(join(path, 'adapter_model.safetensors'), {
    code: 'invalid_adapter',
  })
  let effect = 0
  let rank = 0
  const read = (name: string) => file.readFloat32(name)
  for (const name of file.tensors.keys()) {
    if (!name.includes('lora_A') || (name.includes('lm_head') && !preparesHead)) continue
    const [width, inner] = file.tensors.get(name)!.shape as [number, number]
    const a = read(name)
    const b = read(name.replace('lora_A', 'lora_B'))
    rank = Math.max(rank, width)
    for (let r = 0; r < width; r++) {
      let [left, right] = [0, 0]
      for (let i = 0; i < inner; i++) left += a[r * inner + i]! * ((i % 3) + 1)
      for (let i = 0; i < b.length / width; i++) right += b[i * width + r]! * ((i % 5) + 1)
      effect += left * right
    }
  }
  file.close()
  return { rank, effect }
}

export function fakeLogits(context: readonly number[], effect: number, seed = 1): Float64Array {
  const hash = context.reduce((sum, token) => (Math.imul(sum, 31) + token) | 0, seed)
  const random = createRandomNumbers(hash)
  const logits = Float64Array.from({ length: fakeVocab }, () => 8 * random())
  for (let i = 0; i < fakeVocab; i++) logits[i]! += effect * (((i * 7) % 13) - 6) * 0.1
  logits[fakeEnd] = -30
  return logits
}

const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

const isOfCheck = (name: unknown) => /^(head|loud|blank)-[^@]*$/.test(String(name ?? 'head-'))

const kinds = ['json', 'regex', 'choice', 'grammar', 'json_object', 'structural_tag']

/**
 * The first choice; of what else constrains, some text that is scripted by it. null: not exactly one kind is
 * asked for, which StructuredOutputsParams refuses.
 */
function onlyTextOf(outputs: object): string | null {
  const asked = Object.entries(outputs).filter(
    ([name, value]) => kinds.includes(name) && value !== null,
  )
  const [name, value] = asked.length === 1 ? asked[0]! : ['', null]
  if (name === 'choice') return (value as string[])[0] ?? null
  return name === '' ? null : '{"a":1}'
}

function logSoftmax(logits: Float64Array): Float64Array {
  const most = Math.max(...logits)
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - most), 0)
  return logits.map((logit) => logit - most - Math.log(sum))
}

const ranked = (logprobs: Float64Array) =>
  [...logprobs.keys()].sort((x, y) => logprobs[y]! - logprobs[x]! || x - y)

export async function startFakeVllm(options: FakeVllmOptions = {}) {
  const { base = 'base-model', maxLoras = 8, maxRank = 16, maxContext = 256 } = options
  const { encode = (text: string) => [...Buffer.from(text)] } = options
  const adapters = new Map<string, Loaded>()
  const calls: FakeCall[] = []
  const keys = new Set<string | undefined>()
  const active = new Map<string, number>()
  /** Places of adapters in its kernels, each with when it was used. */
  const slots: { loaded: Loaded; usedAt: number }[] = []
  let numUses = 0
  const cached = new Set<string>()
  const waiting: (() => void)[] = []
  const closings: (() => void)[] = []
  /** Connections that have had a request. */
  const kept = new WeakSet<object>()
  const state = {
    isDead: false,
    /** Answers in their place; undefined: as usual. */
    answer: undefined as
      | ((call: FakeCall) => { status: number; body: object } | undefined)
      | undefined,
    /** Before each token. */
    beforeToken: undefined as ((said: number, body: FakeCall['body']) => unknown) | undefined,
    /** Multiplies what an adapter does; 0: it is taken and not applied. */
    applied: 1,
    /** The name it answers by, where it differs. */
    answersAs: undefined as string | undefined,
    mostActive: 0,
    numClosed: 0,
    seed: options.seed ?? 1,
    /** P(unsafe) that a verdict says of its tokens; the model's own numbers by default. */
    score: undefined as ((tokens: readonly number[]) => number) | undefined,
    /** Events of a stream in place of its own. */
    events: undefined as readonly object[] | undefined,
    /** Adds noise, as batches do. */
    jitter: 0,
    /** It takes calls and never answers them, as a process that is stopped. */
    isStopped: false,
    numRunning: 0,
    /** It closes kept connections just when something comes on them, as after their idle time. */
    dropsKept: false,
    numStarts: 1,
  }

  function send(response: ServerResponse, status: number, body: object | string): void {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    response.writeHead(status, { 'content-type': 'application/json' }).end(text)
  }

  const failure = (code: number, message: string, param: string | null = null) => ({
    error: { message, type: 'Error', param, code },
  })

  // ---- Adapters: nothing is checked ----

  function load(body: FakeCall['body']): readonly [number, object | string] {
    const { lora_name: name, lora_path: path } = body as { lora_name?: string; lora_path?: string }
    if (!name || !path) return [400, failure(400, 'both must be provided')]
    if (adapters.has(name) && body.load_inplace !== true) {
      return [400, failure(400, `adapter '${name}' has already been loaded`)]
    }
    if (!existsSync(path)) return [404, failure(404, `no adapter at ${path}`)]
    const { rank, effect } = effectOf(path, options.preparesHead === true)
    if (rank > maxRank) return [500, failure(500, 'LoRA rank is greater than max')]
    adapters.set(name, { name, path, rank, effect })
    return [200, 'Success']
  }

  /** One more than fit wait, as in vLLM's scheduler. */
  async function enter(loaded: Loaded): Promise<() => void> {
    const { name } = loaded
    while (!active.has(name) && active.size >= maxLoras) {
      await new Promise<void>((resolve) => waiting.push(resolve))
    }
    active.set(name, (active.get(name) ?? 0) + 1)
    activate(loaded)
    state.mostActive = Math.max(state.mostActive, active.size)
    return () => {
      const left = active.get(name)! - 1
      if (left === 0) active.delete(name)
      else active.set(name, left)
      for (const wake of waiting.splice(0)) wake()
    }
  }

  /** The least recently used one gives its place up. */
  function activate(loaded: Loaded): void {
    const usedAt = numUses++
    const idle = slots.filter(({ loaded }) => !active.has(loaded.name))
    const slot =
      slots.find((slot) => slot.loaded === loaded) ??
      (slots.length < maxLoras
        ? slots[slots.push({ loaded, usedAt }) - 1]!
        : idle.reduce((least, other) => (other.usedAt < least.usedAt ? other : least)))
    Object.assign(slot, { loaded, usedAt })
  }

  /** What acts on a row. */
  function effectIn(adapter: Loaded | undefined): number {
    if (adapter !== undefined) return adapter.effect
    const isBesideAdapter = options.confusesBase === true && active.size > 0
    return isBesideAdapter ? (slots[maxLoras - 1]?.loaded.effect ?? 0) : 0
  }

  // ---- Completions ----

  async function complete(response: ServerResponse, body: FakeCall['body']): Promise<void> {
    const name = body.model as string | undefined
    // A missing or empty one is the base.
    const adapter = name && name !== base ? adapters.get(name) : undefined
    if (name && name !== base && adapter === undefined) {
      return send(response, 404, failure(404, `The model \`${name}\` does not exist.`, 'model'))
    }
    if (adapter !== undefined && !existsSync(adapter.path)) {
      // It is read again when it was evicted, and its engine ends.
      state.isDead = true
      return send(response, 500, failure(500, 'EngineCore encountered an issue'))
    }
    const leave = adapter === undefined ? () => {} : await enter(adapter)
    try {
      const isBesideAnother = state.numRunning++ > 0
      if (options.preparesHead && isBesideAnother && body.prompt_logprobs !== undefined) {
        state.isDead = true
        return send(response, 500, failure(500, 'EngineCore encountered an issue'))
      }
      await generate(response, body, state.answersAs ?? name ?? base, adapter)
    } finally {
      state.numRunning--
      leave()
    }
  }

  async function generate(
    response: ServerResponse,
    body: FakeCall['body'],
    model: string,
    adapter: Loaded | undefined,
  ): Promise<void> {
    const prompt = body.prompt as number[]
    const said: number[] = []
    const stops = (body.stop_token_ids as number[] | undefined) ?? []
    const maxTokens = (body.max_tokens as number | undefined) ?? 16
    const numTop = body.logprobs as number | undefined
    const wanted = body.logprob_token_ids as number[] | undefined
    const outputs = options.constrains === false ? undefined : body.structured_outputs
    const only = outputs === undefined ? undefined : onlyTextOf(outputs as object)
    if (only === null) return send(response, 400, failure(400, 'one kind of constraint'))
    const key = `${model} ${prompt.join()}`
    const numCached = cached.has(key) ? prompt.length - (prompt.length % 16) : 0
    cached.add(key)
    let finish: string | null = null
    let isClosed = false
    response.on('close', () => {
      isClosed = true
      if (response.writableFinished) return
      state.numClosed++
      for (const wake of closings.splice(0)) wake()
    })
    if (body.stream === true) response.writeHead(200, { 'content-type': 'text/event-stream' })
    const write = (event: object | string) =>
      response.write(`data: ${typeof event === 'string' ? event : JSON.stringify(event)}\n\n`)

    const logprobsAt = (context: readonly number[]) =>
      logSoftmax(
        fakeLogits(context, effectIn(adapter) * state.applied, state.seed).map(
          (logit) => logit + state.jitter * Math.random(),
        ),
      )

    const lists: { tokens: string[]; token_logprobs: number[]; top_logprobs: object[] } = {
      tokens: [],
      token_logprobs: [],
      top_logprobs: [],
    }
    for (const event of (body.stream === true && state.events) || []) write(event)
    if (body.stream === true && state.events) return void response.end('data: [DONE]\n\n')
    while (finish === null) {
      await (state.beforeToken?.(said.length, body) ?? (options.confusesBase && nextTurn()))
      if (isClosed || state.isDead) return void response.destroy()
      const logprobs = logprobsAt([...prompt, ...said])
      if (wanted !== undefined && state.score !== undefined) {
        const score = state.score(prompt)
        logprobs[wanted[0]!] = Math.log(1 - score)
        logprobs[wanted[1]!] = Math.log(score)
      }
      const order = ranked(logprobs)
      const mayEnd = said.length >= ((body.min_tokens as number | undefined) ?? 0)
      const scripted = options.next?.(prompt, said) ?? null
      const end = stops[0] ?? fakeEnd
      const chosen = only === undefined ? scripted : (Buffer.from(only)[said.length] ?? end)
      const token = chosen ?? order.find((id) => mayEnd || !stops.includes(id))!
      said.push(token)
      const isEos = body.ignore_eos !== true && token === fakeEnd
      if (mayEnd && (stops.includes(token) || isEos)) finish = 'stop'
      else if (said.length >= maxTokens) finish = 'length'
      const shown = new Set([token, ...(wanted ?? order.slice(0, numTop ?? 0))])
      const top = Object.fromEntries([...shown].map((id) => [`token_id:${id}`, logprobs[id]!]))
      const own = {
        tokens: [`token_id:${token}`],
        token_logprobs: [logprobs[token]!],
        top_logprobs: [top],
      }
      lists.tokens.push(...own.tokens)
      lists.token_logprobs.push(...own.token_logprobs)
      lists.top_logprobs.push(...own.top_logprobs)
      if (body.stream !== true) continue
      write({
        model,
        choices: [
          {
            index: 0,
            text: '',
            token_ids: [token],
            finish_reason: finish,
            ...(numTop !== undefined && { logprobs: { ...own, text_offset: [0] } }),
          },
        ],
      })
    }
    const details = options.tellsCached === false ? null : { cached_tokens: numCached }
    const usage = {
      prompt_tokens: prompt.length,
      completion_tokens: said.length,
      total_tokens: prompt.length + said.length,
      ...(details && { prompt_tokens_details: details }),
    }
    if (body.stream === true) {
      write({ model, choices: [], usage })
      write('[DONE]')
      return void response.end()
    }
    const numPrompt = body.prompt_logprobs as number | undefined
    const promptLogprobs = prompt.map((id, i) => {
      if (i === 0) return null
      const logprobs = logprobsAt(prompt.slice(0, i))
      const order = ranked(logprobs)
      const ids = new Set([id, ...order.slice(0, numPrompt)])
      const entries = [...ids].map((one) => {
        const rank = order.indexOf(one) + 1
        return [String(one), { logprob: logprobs[one]!, rank, decoded_token: '' }]
      })
      return Object.fromEntries(entries)
    })
    send(response, 200, {
      model,
      choices: [
        {
          index: 0,
          text: Buffer.from(said.filter((id) => id < 256)).toString(),
          token_ids: said,
          finish_reason: finish,
          logprobs: numTop === undefined ? null : { ...lists, text_offset: [] },
          prompt_logprobs: numPrompt === undefined ? null : promptLogprobs,
        },
      ],
      usage,
    })
  }

  // ---- Routes ----

  function listModels(response: ServerResponse): void {
    const own = { id: base, parent: null, root: '/models/base', max_model_len: maxContext }
    const others = [...adapters.values()].map(({ name, path }) => {
      return { id: name, parent: base, root: path, max_model_len: null }
    })
    send(response, 200, { object: 'list', data: [own, ...others] })
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part)
    const isKept = kept.has(request.socket)
    kept.add(request.socket)
    if (isKept && state.dropsKept) return void request.socket.destroy()
    const text = Buffer.concat(parts).toString()
    // Seeds are beyond what JSON.parse keeps.
    const seedText = /"seed":(-?\d+)/.exec(text)?.[1]
    const body = text === '' ? {} : { ...JSON.parse(text), ...(seedText && { seed: seedText }) }
    const call = { path: request.url ?? '', body }
    keys.add(request.headers.authorization)
    if (call.path !== '/health' && call.path !== '/metrics') calls.push(call)
    if (state.isStopped) return
    const scripted = state.answer?.(call)
    if (scripted !== undefined) return send(response, scripted.status, scripted.body)
    if (state.isDead)
      return send(response, call.path === '/health' ? 503 : 500, failure(500, 'EngineDeadError'))
    switch (call.path) {
      case '/health':
        return send(response, 200, '')
      case '/metrics':
        return send(
          response,
          200,
          `process_start_time_seconds ${state.numStarts}\nvllm:kv_cache_usage_perc{engine="0"} 0.25\n${options.tellsSlots === false ? '' : `vllm:lora_requests_info{max_lora="${maxLoras}",running_lora_adapters=""} 1.0\n`}`,
        )
      case '/v1/models':
        return listModels(response)
      case '/tokenize':
        return send(response, 200, { tokens: encode(body.prompt) })
      case '/v1/completions':
        return complete(response, body)
      case '/v1/load_lora_adapter':
        if (options.loadsAtRuntime !== false) return send(response, ...load(body))
        break
      case '/v1/unload_lora_adapter':
        if (!adapters.delete(body.lora_name)) return send(response, 404, failure(404, 'not found'))
        return send(response, 200, 'Success')
    }
    send(response, 404, { detail: 'Not Found' })
  }

  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy())
  })
  server.listen(options.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo

  return {
    url: `http://127.0.0.1:${port}`,
    port,
    base,
    adapters,
    calls,
    /** Every authorization header that came. */
    keys,
    state,
    /** Streams of requests: those of the start's checks name adapters without a strength. */
    completions: () =>
      calls.filter(
        ({ path, body }) =>
          path === '/v1/completions' && body.stream === true && !isOfCheck(body.model),
      ),
    /** Without those of the start's checks. */
    loads: () =>
      calls.filter(
        ({ path, body }) => path === '/v1/load_lora_adapter' && !isOfCheck(body.lora_name),
      ),
    /** The next time that a client closes a connection before its end. */
    nextClosed: () => new Promise<void>((resolve) => closings.push(resolve)),
    /** What it held is gone, as after a new start. */
    restart(): void {
      adapters.clear()
      cached.clear()
      state.isDead = false
      state.numStarts++
    },
    async close(): Promise<void> {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
