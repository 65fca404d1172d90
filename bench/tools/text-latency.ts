// What encoding a short prompt costs in a thread of its own, beside encoding it in place; with the cores
// idle and with every core busy. And the memory of a thread's tokenizer.
//   node dist/bench/tools/text-latency.js [checkpoint folder]

import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { ChatMessage, Prompt } from '../../server/contracts/generation.ts'
import { createTextThreads } from '../../server/engine/text-threads.ts'
import { loadChatTemplate } from '../../server/tokenizer/chat-template.ts'
import { loadTokenizer } from '../../server/tokenizer/tokenizer.ts'

const dir = process.argv[2] ?? 'models/tiny-reasoner'
const numRuns = 300
const content = 'A shop fills 2 bags, each with 62 books. '.repeat(8)
const messages: readonly ChatMessage[] = [{ role: 'user', content }]
const prompt: Extract<Prompt, { kind: 'messages' }> = { kind: 'messages', messages }
const maxContext = 1 << 20

function mebibytes(): number {
  return Math.round(process.memoryUsage().rss / 2 ** 20)
}

async function measure(work: () => unknown): Promise<string> {
  const times: number[] = []
  for (let i = 0; i < numRuns; i++) {
    const startMs = performance.now()
    await work()
    times.push(performance.now() - startMs)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  times.sort((x, y) => x - y)
  const at = (share: number) => times[Math.floor(share * (numRuns - 1))]!.toFixed(2)
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)} ms`
}

const tokenizer = loadTokenizer(dir)
const template = loadChatTemplate(dir, tokenizer)
const before = mebibytes()
const startMs = performance.now()
const threads = createTextThreads({ dir, onNotice: console.error, now: () => performance.now() })
await threads.opened()
const took = Math.round(performance.now() - startMs)
await new Promise((resolve) => setTimeout(resolve, 2 * took))
console.log(`two threads: first open in ${took} ms, ${before} → ${mebibytes()} MiB resident`)
const turn = { client: 'bench', request: 'bench' }
const inPlace = () => template.encode(messages, { addGenerationPrompt: true })
const inThread = () => threads.run({ kind: 'encode', prompt, maxContext }, turn)
for (const state of ['idle', 'busy']) {
  const spinners =
    state === 'idle'
      ? []
      : Array.from(
          { length: availableParallelism() },
          () => new Worker('for (;;) Math.random()', { eval: true }),
        )
  for (let round = 0; round < 2; round++) {
    console.log(`${state}, in place: ${await measure(inPlace)}`)
    console.log(`${state}, in a thread: ${await measure(inThread)}`)
  }
  await Promise.all(spinners.map((spinner) => spinner.terminate()))
}
await threads.close()
