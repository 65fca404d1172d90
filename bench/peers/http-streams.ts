// A client of the server: completions that are streamed over HTTP, with the time at which each token
// came.

import { Agent, request } from 'node:http'
import { performance } from 'node:perf_hooks'
import { adapterName } from '../models/random-adapters.ts'
import { type DecodeArgs, randomTokens } from './protocol.ts'

interface Stream {
  /** Monotonic milliseconds at which each token's text came. */
  readonly arrivals: number[]
  readonly finished: Promise<void>
}

interface Asked {
  readonly prompt: readonly number[]
  readonly maxTokens: number
  readonly adapter: number | null
}

export const modelId = 'random'

/** How a request names the base or an adapter: the fields of its body. */
export type NameAdapter = (adapter: number | null) => Readonly<Record<string, string>>

function nameAsOurs(adapter: number | null) {
  return { model: modelId, adapter: adapter === null ? 'none' : adapterName(adapter) }
}

/** `past` is the length of the prompt that streams have unless they are given another. */
export function createStreams(url: string, past: number, nameAdapter: NameAdapter = nameAsOurs) {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const whole = randomTokens(past)

  /** Starts a request; rejects unless it answers every token that was asked for. */
  function ask({ prompt, maxTokens, adapter }: Asked): Stream {
    const arrivals: number[] = []
    const body = JSON.stringify({
      ...nameAdapter(adapter),
      prompt,
      max_tokens: maxTokens,
      ignore_eos: true,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    })
    const finished = new Promise<void>((resolve, reject) => {
      const headers = { 'content-type': 'application/json' }
      const call = request(`${url}/v1/completions`, { method: 'POST', agent, headers })
      call.on('error', reject)
      call.on('response', (response) => {
        let rest = ''
        let numTokens = 0
        response.setEncoding('utf8')
        response.on('error', reject)
        response.on('data', (part: string) => {
          const now = performance.now()
          const events = (rest + part).split('\n\n')
          rest = events.pop() ?? ''
          for (const event of events) {
            if (!event.startsWith('data: {')) continue
            const chunk = JSON.parse(event.slice('data: '.length))
            if (chunk.choices?.[0]?.text) arrivals.push(now)
            if (chunk.usage) numTokens = chunk.usage.completion_tokens
          }
        })
        response.on('end', () => {
          if (numTokens === maxTokens) resolve()
          else reject(new Error(`${numTokens} tokens came of ${maxTokens}: ${rest.slice(0, 500)}`))
        })
      })
      call.end(body)
    })
    return { arrivals, finished }
  }

  async function streamAll(
    streams: number,
    maxTokens: number,
    adapters: DecodeArgs['adapters'],
    prompt = whole,
  ) {
    const started = Array.from({ length: streams }, (_, row) =>
      ask({ prompt, maxTokens, adapter: adapters[row] ?? null }),
    )
    await Promise.all(started.map(({ finished }) => finished))
    return started.map(({ arrivals }) => arrivals)
  }

  /** The time in which every stream decodes: after the last prompt, before the first end. */
  async function decode({ streams, tokens, adapters }: DecodeArgs) {
    const all = await streamAll(streams, tokens + 1, adapters)
    const from = Math.max(...all.map((arrivals) => arrivals[0]!))
    const to = Math.min(...all.map((arrivals) => arrivals.at(-1)!))
    const within = all.flat().filter((at) => at > from && at <= to)
    return { ms: to - from, tokens: within.length }
  }

  async function firstTokenMs(promptTokens: number, adapter: number | null): Promise<number> {
    const start = performance.now()
    const stream = ask({ prompt: randomTokens(promptTokens), maxTokens: 1, adapter })
    await stream.finished
    return (stream.arrivals[0] ?? performance.now()) - start
  }

  return { ask, streamAll, decode, firstTokenMs, whole, close: () => agent.destroy() }
}
