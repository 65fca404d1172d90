// How late the front's event loop comes under single hostile requests that fit the limits, with the
// model that ships. Each line: the request, its status, its seconds, the longest lag in ms.
//   node dist/bench/tools/front-lag.js [part of a title]

import { once } from 'node:events'
import { connect } from 'node:net'
import { startMeasuredServer } from './measured-server.ts'

const [wanted = ''] = process.argv.slice(2)

const chat = { model: '', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 1 }
const completion = { model: '', prompt: 'Hi', max_tokens: 1, temperature: 0 }

function fields(count: number, entry: (i: number) => unknown): Record<string, unknown> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, entry(i)]))
}

function deep(open: string, close: string, depth: number): string {
  return `{"model":"","x":${open.repeat(depth)}1${close.repeat(depth)}}`
}

/** What is asked of the prompts themselves. */
function ofPrompts(count: number, length: number, fields: object): object {
  const prompt = Array.from({ length: count }, () =>
    Array.from({ length }, (_, i) => (i % 700) + 5),
  )
  return { ...completion, prompt, max_tokens: 0, ...fields }
}

const chatPath = '/v1/chat/completions'
const completionPath = '/v1/completions'

/** [title, path, body as it is sent] */
const bodies: ReadonlyArray<readonly [string, string, () => string]> = [
  ['a small one', chatPath, () => JSON.stringify(chat)],
  [
    '100,000 unknown keys',
    chatPath,
    () => JSON.stringify({ ...chat, ...fields(100_000, () => 1) }),
  ],
  [
    '100,000 keys in an unknown field',
    chatPath,
    () => JSON.stringify({ ...chat, x: fields(100_000, () => 1) }),
  ],
  [
    '100,000 biases',
    chatPath,
    () => JSON.stringify({ ...chat, logit_bias: fields(100_000, () => 1) }),
  ],
  ['lists 400,000 deep', chatPath, () => deep('[', ']', 400_000)],
  ['objects 250,000 deep', chatPath, () => deep('{"a":', '}', 250_000)],
  [
    '400,000 objects in a list',
    chatPath,
    () => JSON.stringify({ ...chat, x: Array.from({ length: 400_000 }, () => ({})) }),
  ],
  [
    '60,000 messages',
    chatPath,
    () =>
      JSON.stringify({
        ...chat,
        messages: Array.from({ length: 60_000 }, () => ({ role: 'user', content: '' })),
      }),
  ],
  [
    '500,000 stop strings',
    chatPath,
    () => JSON.stringify({ ...chat, stop: Array.from({ length: 500_000 }, () => '') }),
  ],
  [
    '900,000 tokens',
    completionPath,
    () => JSON.stringify({ ...completion, prompt: Array.from({ length: 900_000 }, () => 1) }),
  ],
  [
    'n 16, 64 prompts, logprobs',
    completionPath,
    () =>
      JSON.stringify({
        ...completion,
        prompt: Array.from({ length: 64 }, () => 'Hi'),
        n: 16,
        logprobs: 20,
        max_tokens: 4,
        ignore_eos: true,
      }),
  ],
  [
    '128 prompts of 500 tokens, echoed, logprobs',
    completionPath,
    () => JSON.stringify(ofPrompts(128, 500, { echo: true, logprobs: 20 })),
  ],
  [
    'the same, streamed',
    completionPath,
    () => JSON.stringify(ofPrompts(128, 500, { echo: true, logprobs: 20, stream: true })),
  ],
  [
    '16 prompts of 1,900 tokens, echoed, logprobs',
    completionPath,
    () => JSON.stringify(ofPrompts(16, 1900, { echo: true, logprobs: 20 })),
  ],
  [
    '16 prompts of 1,900 tokens, echoed, streamed',
    completionPath,
    () => JSON.stringify(ofPrompts(16, 1900, { echo: true, logprobs: 20, stream: true })),
  ],
  [
    'n 16, 64 prompts of 250 tokens, echoed, logprobs',
    completionPath,
    () => JSON.stringify(ofPrompts(64, 250, { echo: true, logprobs: 20, n: 16, max_tokens: 1 })),
  ],
  [
    'n 16, 64 prompts of 250 tokens, prompt_logprobs',
    completionPath,
    () => JSON.stringify(ofPrompts(64, 250, { prompt_logprobs: 20, n: 16, max_tokens: 1 })),
  ],
]

const server = await startMeasuredServer(['--max-queue', '100000'])
const { url } = server

async function measure(title: string, work: () => Promise<number | string>): Promise<void> {
  if (!title.includes(wanted)) return
  await server.readLag()
  const start = performance.now()
  const status = await work()
  const seconds = (performance.now() - start) / 1000
  const { front } = await server.readLag()
  console.log(`| ${title} | ${status} | ${seconds.toFixed(2)} | ${front.toFixed(0)} |`)
}

async function post(path: string, body: string): Promise<number> {
  const response = await fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  })
  // Bytes are counted, not kept: a large answer is the client's to read.
  for await (const _ of response.body!) void _
  return response.status
}

/** A body in chunks of one byte, written as fast as the server reads. */
async function postChunks(count: number): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  let answer = ''
  const over = new Promise<void>((resolve) => {
    socket.on('data', (data) => {
      answer += data
      resolve()
    })
    socket.on('close', () => resolve())
    socket.on('error', () => resolve())
  })
  socket.write(
    `POST ${chatPath} HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/json\r\n` +
      'transfer-encoding: chunked\r\n\r\n',
  )
  const text = JSON.stringify(chat)
  for (const char of text) socket.write(`1\r\n${char}\r\n`)
  const spaces = '1\r\n \r\n'.repeat(1000)
  for (let sent = 0; sent < count; sent += 1000) {
    if (socket.destroyed || answer !== '') break
    if (!socket.write(spaces)) {
      await Promise.race([once(socket, 'drain').catch(() => {}), over])
    }
  }
  socket.write('0\r\n\r\n')
  await over
  socket.destroy()
  return answer.slice(9, 12) || 'closed'
}

// The first request of a process compiles what all of them run.
await post(chatPath, JSON.stringify(chat))
console.log('| request | status | seconds | lag, ms |')
console.log('| --- | --- | --- | --- |')
for (const [title, path, body] of bodies) {
  const text = body()
  await measure(title, () => post(path, text))
}
await measure('300,000 chunks of one byte', () => postChunks(300_000))
await measure('the same, four at once', async () => {
  const statuses = await Promise.all(Array.from({ length: 4 }, () => postChunks(300_000)))
  return statuses.join(' ')
})
server.stop()
