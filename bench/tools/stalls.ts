// What one client can do to others: the server as users start it, on the embedded model. Beside a
// running stream, requests made to be costly are sent from one address; from another comes a request
// for one token. Prints the longest gap of the stream and the longest wait for the one token.
// With "same", all come from one address, so that they are one client.
//   node dist/bench/tools/stalls.js [root of a built checkout] [same]

import { spawn } from 'node:child_process'
import { once, setMaxListeners } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const root = resolve(process.argv[2] ?? '.')
/** Addresses of this machine: who watches, and who attacks. */
const watcher = '127.0.0.1'
const attacker = process.argv[3] === 'same' ? watcher : '127.0.0.2'
/** How long the stream is watched after the costly requests were sent, at least. */
const watchMs = 4000

interface Attack {
  readonly name: string
  readonly path: string
  readonly bodies: readonly object[]
}

function chat(content: string, more: object = {}): object {
  return { messages: [{ role: 'user', content }], max_tokens: 1, ...more }
}

function repeat(count: number, body: object): object[] {
  return Array.from({ length: count }, () => body)
}

const chatPath = '/v1/chat/completions'
const completionsPath = '/v1/completions'
const many = { prompt: Array.from({ length: 60 }, (_, i) => `${i} is`), n: 16, max_tokens: 16 }
const long = { prompt: 'Count: 1, 2,', max_tokens: 1500, ignore_eos: true }
const echoes = {
  prompt: Array.from({ length: 60 }, (_, i) =>
    Array.from({ length: 500 }, (_, j) => (i * 31 + j * 7) % 700),
  ),
  max_tokens: 0,
  echo: true,
  logprobs: 20,
}
const thoughts = `</think>${' '.repeat(200)}`.repeat(2300)
const short = Array.from({ length: 9999 }, (_, i) => {
  return { role: i % 2 === 0 ? 'user' : 'assistant', content: 'x' }
})

const attacks: readonly Attack[] = [
  { name: 'nothing', path: chatPath, bodies: [] },
  { name: '500 kB of digits', path: chatPath, bodies: [chat('7'.repeat(500_000))] },
  { name: '500 kB of spaces', path: chatPath, bodies: [chat(' '.repeat(500_000))] },
  { name: '500 kB of letters', path: chatPath, bodies: [chat('ab'.repeat(250_000))] },
  { name: '500 kB of digits, plain', path: completionsPath, bodies: [{ prompt: '7'.repeat(5e5) }] },
  { name: '9,999 short messages', path: chatPath, bodies: [{ messages: short, max_tokens: 1 }] },
  {
    name: '</think> + 200 spaces × 2,300',
    path: chatPath,
    bodies: [
      {
        messages: [
          { role: 'user', content: 'x' },
          { role: 'assistant', content: thoughts },
          { role: 'user', content: 'y' },
        ],
        max_tokens: 1,
      },
    ],
  },
  { name: '</think> + 200 spaces × 2,300, asked', path: chatPath, bodies: [chat(thoughts)] },
  {
    name: '/tokenize of 500 kB, with strings',
    path: '/tokenize',
    bodies: [{ prompt: '7'.repeat(500_000), return_token_strs: true }],
  },
  { name: '20 × 500 kB of digits', path: chatPath, bodies: repeat(20, chat('7'.repeat(500_000))) },
  { name: '60 prompts × n 16', path: completionsPath, bodies: [many] },
  { name: '8 long streams', path: completionsPath, bodies: repeat(8, long) },
  { name: '100 long streams', path: completionsPath, bodies: repeat(100, long) },
  {
    name: '20 prompts of 1,900 tokens',
    path: completionsPath,
    bodies: Array.from({ length: 20 }, (_, i) => ({
      prompt: Array.from({ length: 1900 }, (_, j) => (i * 31 + j * 7) % 700),
      max_tokens: 1,
    })),
  },
  { name: '60 prompts of 500 tokens, echoed, logprobs', path: completionsPath, bodies: [echoes] },
  {
    name: '4 × the same',
    path: completionsPath,
    bodies: repeat(4, echoes),
  },
]

let modelName = ''

function send(url: URL, path: string, body: object, address: string, signal?: AbortSignal) {
  const text = JSON.stringify({ model: modelName, ...body })
  const outgoing = httpRequest(new URL(path, url), {
    method: 'POST',
    localAddress: address,
    agent: false,
    headers: { 'content-type': 'application/json' },
    ...(signal === undefined ? {} : { signal }),
  })
  outgoing.end(text)
  return once(outgoing, 'response') as Promise<[IncomingMessage]>
}

/** Status, once the whole answer came. */
async function ask(url: URL, path: string, body: object, address: string, signal?: AbortSignal) {
  const [response] = await send(url, path, body, address, signal)
  response.resume()
  await once(response, 'end')
  return response.statusCode ?? 0
}

/** A stream that goes on until it is aborted, begun anew where it ends; when its pieces came. */
async function watchStream(url: URL, signal: AbortSignal, times: number[]): Promise<void> {
  while (!signal.aborted) {
    const body = { prompt: 'Count: 1,', max_tokens: 1500, ignore_eos: true, stream: true }
    try {
      const [response] = await send(url, completionsPath, body, watcher, signal)
      let isFirst = true
      for await (const _ of response) {
        // Between two streams nothing is owed.
        times.push(isFirst ? Number.NaN : 0, performance.now())
        isFirst = false
      }
    } catch {
      return
    }
  }
}

function longestGap(times: readonly number[]): number {
  let longest = 0
  for (let i = 3; i < times.length; i += 2) {
    if (!Number.isNaN(times[i - 1]!)) longest = Math.max(longest, times[i]! - times[i - 2]!)
  }
  return longest
}

async function measure(url: URL, { path, bodies }: Attack) {
  const stream = new AbortController()
  const attack = new AbortController()
  setMaxListeners(0, attack.signal)
  const times: number[] = []
  const watching = watchStream(url, stream.signal, times)
  while (times.length < 20) await sleep(10)
  times.length = 0
  const startMs = performance.now()
  const statuses = new Map<number, number>()
  let numOpen = bodies.length
  const attacking = bodies.map(async (body) => {
    try {
      const status = await ask(url, path, body, attacker, attack.signal)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    } catch {}
    numOpen--
  })
  let longestWait = 0
  while (performance.now() - startMs < watchMs) {
    await sleep(200)
    const askedMs = performance.now()
    await ask(url, chatPath, chat('Hi'), watcher)
    longestWait = Math.max(longestWait, performance.now() - askedMs)
    if (numOpen === 0 && performance.now() - startMs > watchMs / 2) break
  }
  const gap = longestGap(times)
  stream.abort()
  attack.abort()
  await Promise.all([watching, ...attacking])
  await sleep(300)
  const told = [...statuses].map(([status, count]) => `${count} × ${status}`).join(', ')
  return { gap, longestWait, told: told === '' ? '–' : told }
}

const main = join(root, 'dist', 'server', 'main.js')
const server = spawn(process.execPath, [main, '--port', '0', '--log-level', 'info'], {
  cwd: root,
  stdio: ['ignore', 'ignore', 'pipe'],
})
let url: URL | undefined
for await (const line of createInterface({ input: server.stderr })) {
  const fields = line.startsWith('{') ? JSON.parse(line) : {}
  if (fields.msg !== 'ready') continue
  url = new URL(fields.url)
  break
}
if (url === undefined) throw new Error('the server did not start')
server.stderr.resume()
const models = (await (await fetch(new URL('/v1/models', url))).json()) as {
  data: { id: string }[]
}
modelName = models.data[0]!.id
try {
  console.log('| beside | longest gap, ms | longest wait for one token, ms | answers |')
  console.log('| --- | --- | --- | --- |')
  for (const attack of attacks) {
    const { gap, longestWait, told } = await measure(url, attack)
    const cells = [attack.name, Math.round(gap), Math.round(longestWait), told]
    console.log(`| ${cells.join(' | ')} |`)
  }
} finally {
  server.kill('SIGTERM')
  await once(server, 'exit')
}
