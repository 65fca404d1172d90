// The real vLLMs that scripts/test-vllm.mjs has started, fronts over them, our own engine beside them, and what
// is asked of all.

import assert from 'node:assert/strict'
import { openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { within } from '../support/deadline.ts'
import { parseEvents } from '../support/front.ts'
import { type RealServer, startServer } from '../support/real-server.ts'
import { root } from '../support/root.ts'

const found = process.env.DUTYFREE_VLLM
if (found === undefined) throw new Error('run npm run test:vllm, which makes ready what this needs')
export const place = found
export const settings = JSON.parse(readFileSync(join(place, 'vllm.json'), 'utf8')) as {
  readonly model: string
  readonly adapters: string
  readonly upstreams: Readonly<Record<'usual' | 'small', VllmOptions>>
}

interface VllmOptions {
  readonly model: string
  readonly port: number
  readonly [option: string]: unknown
}

/** A vLLM's start, its checks, and one answer, on a machine that others use. */
export const readyWithinMs = 600_000
export const answerWithinMs = 120_000

/** One vLLM: its processes are a group. */
export interface Vllm {
  readonly url: string
  /** To all its processes. */
  signal(name: NodeJS.Signals): void
  /** To the first one, as a pod's end tells it. */
  shutDown(): void
  /** To the process that computes, which vLLM's API server started. */
  signalEngine(name: NodeJS.Signals): void
  /** Ends what is left of it, and starts it with the same options. Resolves with the seconds. */
  start(): Promise<number>
  end(): void
  /** Names that it lists: bases, and adapters that are registered. */
  names(): Promise<{ readonly bases: string[]; readonly adapters: string[] }>
}

export function vllmOf(name: string, options: VllmOptions): Vllm {
  const url = `http://127.0.0.1:${options.port}`
  const file = join(place, `${name}.pid`)
  const pid = () => Number(readFileSync(file, 'utf8'))
  function signal(what: NodeJS.Signals): void {
    process.kill(-pid(), what)
  }
  function end(): void {
    try {
      signal('SIGKILL')
    } catch {
      // It has ended, or never begun.
    }
    rmSync(file, { force: true })
  }
  return {
    url,
    signal,
    shutDown() {
      process.kill(pid(), 'SIGTERM')
    },
    end,
    signalEngine(what) {
      const children = readFileSync(`/proc/${pid()}/task/${pid()}/children`, 'utf8')
      const engines = children
        .trim()
        .split(' ')
        .filter((child) => /EngineCore/.test(readFileSync(`/proc/${child}/cmdline`, 'utf8')))
      assert.equal(engines.length, 1, children)
      process.kill(Number(engines[0]), what)
    },
    async start() {
      end()
      const scripts = pathToFileURL(join(root, 'scripts/vllm.mjs')).href
      const { startVllm } = await import(scripts)
      const begun = performance.now()
      const log = openSync(join(place, `${name}.log`), 'a')
      const onStarted = (child: { pid: number; unref(): void }) => {
        writeFileSync(file, `${child.pid}`)
        child.unref()
      }
      await within(
        readyWithinMs,
        `${name} that answers`,
        startVllm({ ...options, stdio: ['ignore', log, log], onStarted }),
      )
      return (performance.now() - begun) / 1000
    },
    async names() {
      const { data } = (await (await fetch(`${url}/v1/models`)).json()) as {
        data: { id: string; parent: string | null }[]
      }
      return {
        bases: data.filter(({ parent }) => parent === null).map(({ id }) => id),
        adapters: data.filter(({ parent }) => parent !== null).map(({ id }) => id),
      }
    },
  }
}

export const usual = vllmOf('usual', settings.upstreams.usual)
export const small = vllmOf('small', settings.upstreams.small)

const shared = ['--model', settings.model, '--cache-dir', join(place, 'cache')]

/** Over upstreams that answer: one that a test before has left ended is started. */
export async function startFront(
  upstreams: readonly Vllm[],
  flags: readonly string[] = [],
  adapters = settings.adapters,
): Promise<RealServer> {
  for (const upstream of upstreams) {
    const answer = await fetch(`${upstream.url}/health`).catch(() => null)
    if (!answer?.ok) await upstream.start()
  }
  const urls = upstreams.map(({ url }) => url).join()
  return startServer(
    [
      ...[...shared, '--adapters', adapters, '--engine', 'vllm', '--upstream', urls],
      ...['--upstream-adapters', join(place, 'registered'), ...flags],
    ],
    { readyWithinMs },
  )
}

export function startOwn(adapters = settings.adapters): Promise<RealServer> {
  const own = ['--guard', 'none', '--weights', 'fp32']
  return startServer([...shared, '--adapters', adapters, ...own], { readyWithinMs })
}

interface Token {
  readonly token: string
  readonly logprob: number
  readonly top_logprobs: readonly { readonly token: string; readonly logprob: number }[]
}

export interface Asked {
  readonly content: string
  readonly adapter: string
  readonly maxTokens?: number
  readonly fields?: object
}

export function post(server: Pick<RealServer, 'url'>, asked: Asked, signal?: AbortSignal) {
  const { content, adapter, maxTokens = 32, fields } = asked
  return fetch(`${server.url}/v1/chat/completions?adapter=${adapter}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ model: '', temperature: 0, max_tokens: maxTokens, logprobs: true, top_logprobs: 2 },
      ...{ messages: [{ role: 'user', content }], ...fields },
    }),
    ...(signal && { signal }),
  })
}

export interface Answer {
  readonly tokens: readonly Token[]
  readonly adapter: readonly { digest: string; scale: number; attested?: string }[]
}

/** Fails where it is no answer. */
export async function ask(server: Pick<RealServer, 'url'>, asked: Asked): Promise<Answer> {
  const response = await post(server, asked)
  const body = (await response.json()) as {
    choices: { logprobs: { content: Token[] } }[]
    adapter: Answer['adapter']
  }
  assert.equal(response.status, 200, JSON.stringify(body))
  return { tokens: body.choices[0]!.logprobs.content, adapter: body.adapter }
}

/** Our two best logits nearer than this: rounding may choose the other. */
const nearTie = 0.25

/** Mean difference of the tokens that both say. Fails where they part without a near tie. */
export function compare(ours: readonly Token[], theirs: readonly Token[], what: string): number {
  const differences: number[] = []
  for (const [i, mine] of ours.entries()) {
    const other = theirs[i]
    if (other?.token !== mine.token) {
      const [first, second] = mine.top_logprobs
      const gap = first!.logprob - second!.logprob
      assert.ok(gap < nearTie, `${what}, token ${i}: ${mine.token} ≠ ${other?.token}, gap ${gap}`)
      break
    }
    differences.push(Math.abs(other.logprob - mine.logprob))
  }
  return differences.reduce((sum, x) => sum + x, 0) / Math.max(1, differences.length)
}

/** An answer in a stream, as it comes. */
export interface Stream {
  /** 0 until it has one. */
  readonly status: number
  readonly numTokens: number
  readonly ended: Promise<Ending>
  cancel(): void
}

interface Ending {
  readonly status: number
  readonly retryAfter: string | null
  readonly tokens: readonly Token[]
  readonly adapter: Answer['adapter']
  readonly finish: string | null
  /** Codes of the errors that it told: one at most, the last that it told. */
  readonly errors: readonly string[]
  readonly seconds: number
}

export function stream(server: Pick<RealServer, 'url'>, asked: Asked): Stream {
  const controller = new AbortController()
  let [status, text] = [0, '']
  const begun = performance.now()
  async function follow(): Promise<Ending> {
    const fields = { stream: true, ...asked.fields }
    const response = await post(server, { ...asked, fields }, controller.signal)
    status = response.status
    const decoder = new TextDecoder()
    for await (const bytes of response.body!) text += decoder.decode(bytes, { stream: true })
    const seconds = (performance.now() - begun) / 1000
    const retryAfter = response.headers.get('retry-after')
    return { status, retryAfter, seconds, ...readEnding(status, text) }
  }
  return {
    get status() {
      return status
    },
    get numTokens() {
      return text.split('"logprobs":{"content":[{').length - 1
    },
    ended: follow(),
    cancel: () => controller.abort(),
  }
}

function readEnding(status: number, text: string) {
  type Event = {
    choices?: { finish_reason?: string | null; logprobs?: { content?: Token[] | null } | null }[]
    adapter?: Answer['adapter']
    error?: { code: string }
  }
  if (status !== 200) {
    const { error } = JSON.parse(text) as Event
    return { tokens: [], adapter: [], finish: null, errors: [error!.code] }
  }
  const events = parseEvents(text)
    .filter((event) => event !== '[DONE]')
    .map((event) => event as Event)
  const choices = events.flatMap((event) => event.choices ?? [])
  const at = events.findIndex(({ error }) => error !== undefined)
  assert.ok(at === -1 || at === events.length - 1, `told more after an error: ${text.slice(-600)}`)
  return {
    tokens: choices.flatMap(({ logprobs }) => logprobs?.content ?? []),
    adapter: events.find(({ adapter }) => adapter !== undefined)?.adapter ?? [],
    finish: choices.find(({ finish_reason }) => finish_reason)?.finish_reason ?? null,
    errors: events.flatMap(({ error }) => (error === undefined ? [] : [error.code])),
  }
}

/** Looked at ten times a second. */
export async function until(ms: number, what: string, isTrue: () => boolean | Promise<boolean>) {
  let isOver = false
  const look = async () => {
    while (!isOver && !(await isTrue())) await sleep(100)
  }
  try {
    await within(ms, what, look())
  } finally {
    isOver = true
  }
}

export async function readiness(server: Pick<RealServer, 'url'>) {
  const ready = await fetch(`${server.url}/health/ready`)
  const live = await fetch(`${server.url}/health/live`)
  return { ready: ready.status, live: live.status }
}
