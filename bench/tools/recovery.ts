// How long the server is away after a fault of its engine: killed or stopped while idle, in the middle of
// a stream and while it loads, and when no process can be started. Embedded model; Linux.
//   node dist/bench/tools/recovery.js [folder of another checkout, built]

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const pollMs = 20
const settledMs = 1_000
/** From the start of a process until it is struck while it loads. */
const loadingMs = 200
const givenUpMs = 60_000
/** How long no process can be started. */
const exhaustedMs = 3_000

const root = resolve(process.argv[2] ?? join(import.meta.dirname, '..', '..', '..'))

interface Server {
  readonly url: string
  readonly front: ChildProcess
}

interface Times {
  /** From the fault until /health/ready says 503. */
  notReady: number | null
  /** Until the engine's process is gone. */
  gone: number | null
  /** Until /health/ready says 200 and a token has come. */
  readyAgain: number | null
  /** Until the stream that ran had its terminal event. */
  streamEnd: number | null
}

async function startServer(cacheDir: string): Promise<Server> {
  const main = join(root, 'dist', 'server', 'main.js')
  const flags = ['--port', '0', '--log-level', 'info', '--cache-dir', cacheDir]
  const front = spawn(process.execPath, [main, ...flags], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const url = await new Promise<string>((found, fail) => {
    front.once('exit', (code) => fail(new Error(`the server ended with ${code}`)))
    createInterface({ input: front.stderr }).on('line', (line) => {
      const listening = /"url":"([^"]+)"/.exec(line)?.[1]
      if (listening !== undefined) found(listening)
    })
  })
  return { url, front }
}

function childOf({ front }: Server): number | undefined {
  const { pid, exitCode } = front
  if (exitCode !== null) throw new Error('the server has ended')
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return children === '' ? undefined : Number(children.split(' ').at(-1))
}

async function until<T>(find: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + givenUpMs
  for (;;) {
    const found = await find()
    if (found !== undefined) return found
    if (performance.now() > deadline) throw new Error('given up')
    await sleep(pollMs)
  }
}

/** A front that may open no files takes no connection either: who gets no answer finds it not ready. */
async function isReady({ url }: Server): Promise<boolean> {
  try {
    const answer = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(2000) })
    await answer.arrayBuffer()
    return answer.status === 200
  } catch {
    return false
  }
}

async function sayToken({ url }: Server): Promise<boolean> {
  const answer = await post(url, { max_tokens: 1 }, 5_000).catch(() => undefined)
  await answer?.arrayBuffer()
  return answer?.status === 200
}

function post(url: string, fields: object, timeoutMs = givenUpMs): Promise<Response> {
  const messages = [{ role: 'user', content: 'Say something long.' }]
  return fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny-reasoner', messages, ...fields }),
    signal: AbortSignal.timeout(timeoutMs),
  })
}

/** A stream under way: resolves with the time at which its last event came. */
async function openStream({ url }: Server): Promise<{ readonly end: Promise<number> }> {
  const answer = await post(url, { stream: true, max_tokens: 400, ignore_eos: true })
  const reader = answer.body!.getReader()
  await reader.read()
  async function readOut(): Promise<number> {
    let text = ''
    const decoder = new TextDecoder()
    for (;;) {
      const { value, done } = await reader.read()
      if (done) break
      text += decoder.decode(value, { stream: true })
    }
    if (!text.includes('"error"')) throw new Error('the stream ended before the fault')
    return performance.now()
  }
  return { end: readOut() }
}

function hasEnded(pid: number): boolean {
  const status = `/proc/${pid}/status`
  return !existsSync(status) || /State:\s+Z/.test(readFileSync(status, 'utf8'))
}

/** Seconds from the fault; null where it did not happen within a minute. */
async function measure(
  server: Server,
  fault: () => void,
  stream?: Promise<number>,
): Promise<Times> {
  const pid = childOf(server)!
  const startedAt = performance.now()
  const since = () => (performance.now() - startedAt) / 1000
  const never = () => null
  fault()
  const notReady = until(async () => ((await isReady(server)) ? undefined : since())).catch(never)
  const gone = until(() => (hasEnded(pid) ? since() : undefined)).catch(never)
  const readyAgain = gone.then(async (ended) => {
    if (ended === null) return null
    const isBack = async () => (await isReady(server)) && (await sayToken(server))
    return until(async () => ((await isBack()) ? since() : undefined)).catch(never)
  })
  const streamEnd = stream?.then((at) => (at - startedAt) / 1000).catch(never) ?? null
  return {
    notReady: await notReady,
    gone: await gone,
    readyAgain: await readyAgain,
    streamEnd: await streamEnd,
  }
}

const signals = { kill: 'SIGKILL', stop: 'SIGSTOP' } as const
type Fault = keyof typeof signals

function strike(server: Server, fault: Fault): () => void {
  const pid = childOf(server)!
  return () => void process.kill(pid, signals[fault])
}

const moments = {
  async 'as soon as ready'(server: Server, fault: Fault): Promise<Times> {
    return measure(server, strike(server, fault))
  },
  async idle(server: Server, fault: Fault): Promise<Times> {
    await sleep(settledMs)
    return measure(server, strike(server, fault))
  },
  async 'mid-stream'(server: Server, fault: Fault): Promise<Times> {
    await sleep(settledMs)
    const { end } = await openStream(server)
    return measure(server, strike(server, fault), end)
  },
  /** The restart after a kill, struck in turn. */
  async 'while restarting'(server: Server, fault: Fault): Promise<Times> {
    await sleep(settledMs)
    const first = childOf(server)!
    process.kill(first, 'SIGKILL')
    await until(() => (childOf(server) ?? first) !== first || undefined)
    await sleep(loadingMs)
    return measure(server, strike(server, fault))
  },
}

/** No process can be started for a while: the front may open no more files. */
async function measureSpawnFailure(server: Server): Promise<Times> {
  await sleep(settledMs)
  const { pid } = server.front
  const setLimit = (soft: number) =>
    execFileSync('prlimit', ['--pid', `${pid}`, `--nofile=${soft}:`])
  const times = measure(server, () => {
    setLimit(3)
    process.kill(childOf(server)!, 'SIGKILL')
  })
  await sleep(exhaustedMs)
  setLimit(1024)
  const { readyAgain, ...rest } = await times
  // Counted from where a process can be started again.
  return { ...rest, readyAgain: readyAgain && readyAgain - exhaustedMs / 1000 }
}

async function measureFirstStart(cacheDir: string, fault: Fault): Promise<Times> {
  const server = await startServer(cacheDir)
  try {
    await sleep(loadingMs)
    return await measure(server, strike(server, fault))
  } catch {
    return nothing
  } finally {
    server.front.kill('SIGKILL')
  }
}

function print(fault: string, moment: string, times: Times): void {
  const { notReady, gone, readyAgain, streamEnd } = times
  const cells = [notReady, gone, streamEnd, readyAgain].map((s) => s?.toFixed(1) ?? '–')
  console.log(`| ${[fault, moment, ...cells].join(' | ')} |`)
}

const nothing: Times = { notReady: null, gone: null, readyAgain: null, streamEnd: null }

/** A server of its own for each fault; one that ends with its engine is all dashes. */
async function withServer(run: (server: Server) => Promise<Times>): Promise<Times> {
  const server = await startServer(temp)
  try {
    await until(async () => ((await isReady(server)) ? true : undefined))
    return await run(server)
  } catch {
    return nothing
  } finally {
    server.front.kill('SIGKILL')
  }
}

const temp = mkdtempSync(join(tmpdir(), 'recovery-'))
console.log('| fault | when | not ready after | process gone | stream ended | ready again |')
console.log('| --- | --- | --- | --- | --- | --- |')
try {
  for (const fault of Object.keys(signals) as Fault[]) {
    for (const [moment, run] of Object.entries(moments)) {
      print(fault, moment, await withServer((server) => run(server, fault)))
    }
    print(fault, 'at the first start', await measureFirstStart(temp, fault))
  }
  print('no process for 3 s', 'idle', await withServer(measureSpawnFailure))
} finally {
  rmSync(temp, { recursive: true, force: true })
}
process.exit(0)
