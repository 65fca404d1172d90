// Memory of both processes under thousands of requests, no two of the same prompt: the resident set of
// front and engine as they answer. `echo`: log-probabilities of the whole prompt, as evaluations ask for
// them. `chat`: short chats. Eight at a time. The least-squares slope is of the second half. Linux.
//   node dist/bench/tools/memory.js [echo|chat] [requests] [tokens of a prompt] [flags of the server]

import { readFileSync } from 'node:fs'
import { type MeasuredServer, startMeasuredServer } from './measured-server.ts'

const atOnce = 8
const samples = 20

const [kind = 'echo', count = '3000', length = '200', ...flags] = process.argv.slice(2)
const numRequests = Number(count)
const numTokens = Number(length)

interface Sample {
  readonly answered: number
  readonly frontMiB: number
  readonly engineMiB: number
}

/** Fixed numbers that look like chance: the same prompts in every run. */
function word(request: number, position: number): number {
  let x = Math.imul(request + 1, 0x9e3779b1) ^ Math.imul(position + 1, 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d)
  return (x ^ (x >>> 13)) >>> 0
}

function echo(request: number): object {
  const prompt = Array.from({ length: numTokens }, (_, i) => (word(request, i) % 600) + 20)
  return { model: '', prompt, max_tokens: 1, temperature: 0, echo: true, logprobs: 1 }
}

function chat(request: number): object {
  const numbers = Array.from({ length: numTokens / 4 }, (_, i) => word(request, i) % 90)
  const messages = [{ role: 'user', content: `Add ${numbers.join(' and ')}.` }]
  return { model: '', messages, max_tokens: 24, ignore_eos: true, temperature: 0 }
}

async function send({ url }: MeasuredServer, request: number): Promise<void> {
  const path = kind === 'chat' ? '/v1/chat/completions' : '/v1/completions'
  const body = kind === 'chat' ? chat(request) : echo(request)
  const answer = await fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const text = await answer.text()
  if (answer.status !== 200) throw new Error(`${answer.status}: ${text.slice(0, 300)}`)
}

function residentMiB(pid: number): number {
  const kibibytes = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kibibytes) / 1024
}

/** Of y over x, by least squares. */
function slope(points: readonly (readonly [number, number])[]): number {
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / points.length
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / points.length
  const over = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0)
  return over / points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0)
}

const server = await startMeasuredServer(flags)
const taken: Sample[] = []

function sample(answered: number): void {
  const { front, engine } = server.pids()
  taken.push({ answered, frontMiB: residentMiB(front), engineMiB: residentMiB(engine) })
  const { frontMiB, engineMiB } = taken.at(-1)!
  console.log(`| ${answered} | ${frontMiB.toFixed(0)} | ${engineMiB.toFixed(0)} |`)
}

console.log('| answered | front, MiB | engine, MiB |')
console.log('| --- | --- | --- |')
sample(0)
let next = 0
let answered = 0
async function work(): Promise<void> {
  while (next < numRequests) {
    await send(server, next++)
    answered++
    if (answered % Math.ceil(numRequests / samples) === 0) sample(answered)
  }
}
const start = performance.now()
await Promise.all(Array.from({ length: atOnce }, work))
const seconds = (performance.now() - start) / 1000
const late = taken.filter((one) => one.answered >= numRequests / 2)
for (const of of ['frontMiB', 'engineMiB'] as const) {
  const perRequest = slope(late.map((one) => [one.answered, one[of]]))
  console.log(`${of}: ${(perRequest * 1000).toFixed(1)} MiB per 1,000 requests, second half`)
}
console.log(`${(numRequests / seconds).toFixed(1)} requests/s`)
const metrics = await (await fetch(`${server.url}/metrics`)).text()
console.log(metrics.match(/^dutyfree_engine_memory_bytes.*$/gm)?.join('\n'))
server.stop()
