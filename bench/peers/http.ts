// Peer dutyfree-http: the real server, asked over HTTP with streaming, as clients do.

import { Agent, request } from 'node:http'
import { performance } from 'node:perf_hooks'
import { pathToFileURL } from 'node:url'
import { adapterName } from '../models/random-adapters.ts'
import { percentile } from '../statistics.ts'
import {
  type DecodeArgs,
  type Peer,
  type PeerInfo,
  type PrefillArgs,
  randomTokens,
  servePeer,
} from './protocol.ts'

export interface HttpPeerSpec {
  /** The repository. */
  readonly root: string
  readonly flags: readonly string[]
  /** What of the flags the report shows. */
  readonly about: PeerInfo
  readonly past: number
  /** Adapters from this number on have never been asked for. */
  readonly firstCold: number
}

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

const modelId = 'random'

async function open(spec: HttpPeerSpec): Promise<Peer> {
  const scripts = pathToFileURL(`${spec.root}/scripts/`)
  const { startServer } = await import(new URL('start-server.mjs', scripts).href)
  const probe = new URL('bench/peers/lag-probe.mjs', pathToFileURL(`${spec.root}/`)).href
  const server = await startServer({
    command: [process.execPath, '--import', probe, `${spec.root}/dist/server/main.js`],
    flags: ['--port', '0', '--host', '127.0.0.1', '--served-model-name', modelId, ...spec.flags],
    patienceMs: 600_000,
  })
  // Whatever ends this peer ends its server.
  process.on('exit', () => process.kill(server.pid))
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })

  /** Starts a request; rejects unless it answers every token that was asked for. */
  function ask({ prompt, maxTokens, adapter }: Asked): Stream {
    const arrivals: number[] = []
    const body = JSON.stringify({
      model: modelId,
      prompt,
      max_tokens: maxTokens,
      ignore_eos: true,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
      adapter: adapter === null ? 'none' : adapterName(adapter),
    })
    const finished = new Promise<void>((resolve, reject) => {
      const headers = { 'content-type': 'application/json' }
      const call = request(`${server.url}/v1/completions`, { method: 'POST', agent, headers })
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

  const whole = randomTokens(spec.past)

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

  /**
   * JavaScript that has just started is interpreted, and compiled beside the model on the same
   * cores: some hundred tokens pass before client, front and engine run at the speed of a server in
   * use.
   */
  function warmUp() {
    return streamAll(8, 100, [], whole.slice(0, 8))
  }

  /**
   * The time in which every stream is decoding: prompts are read before it, none has ended in it.
   */
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

  let numReadings = 0
  /**
   * Readings are numbered: of the server's output only the end is kept, so they cannot be counted.
   */
  async function readLag(): Promise<{ p50: number; p99: number; max: number }> {
    const wanted = new RegExp(`"eventLoopLag":(\\{"reading":${++numReadings},[^}]*\\})\\}\n`)
    process.kill(server.pid, 'SIGUSR2')
    const deadline = performance.now() + 5000
    for (;;) {
      const found = wanted.exec(server.output() as string)
      if (found !== null) return JSON.parse(found[1]!)
      if (performance.now() > deadline) throw new Error('the lag probe does not answer')
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  let nextCold = spec.firstCold
  await warmUp()
  return {
    info: spec.about,
    operations: {
      decode,
      async prefill({ tokens, adapter }: PrefillArgs) {
        return { ms: await firstTokenMs(tokens, adapter), tokens }
      },
      /**
       * Median time to the first token, each request with the adapter of the one before or another.
       */
      async firstToken({ count, tokens, switches }: FirstTokenArgs) {
        const times: number[] = []
        for (let i = 0; i <= count; i++)
          times.push(await firstTokenMs(tokens, switches ? i % 2 : 0))
        return { value: percentile(times.slice(1), 0.5) }
      },
      /**
       * The longest gap between two tokens of running streams while a request with an adapter comes
       * in.
       */
      async gap({ streams, tokens, cold }: GapArgs) {
        const running = Array.from({ length: streams }, () =>
          ask({ prompt: whole, maxTokens: tokens, adapter: null }),
        )
        const deadline = performance.now() + 60_000
        while (running.some(({ arrivals }) => arrivals.length < tokens / 4)) {
          if (performance.now() > deadline) throw new Error('the streams do not get going')
          await new Promise((resolve) => setTimeout(resolve, 2))
        }
        const start = performance.now()
        const ms = await firstTokenMs(8, cold ? nextCold++ : 0)
        await Promise.all(running.map(({ finished }) => finished))
        const gaps = running.flatMap(({ arrivals }) =>
          arrivals.slice(1).flatMap((at, i) => {
            const meets = at >= start && arrivals[i]! <= start + ms
            return meets ? [at - arrivals[i]!] : []
          }),
        )
        return { value: Math.max(...gaps), firstTokenMs: ms }
      },
      async lag({ streams, tokens }: { streams: number; tokens: number }) {
        await readLag()
        await streamAll(streams, tokens, [])
        const { p50, p99, max } = await readLag()
        return { value: p99, p50, max }
      },
    },
    close: async () => {
      agent.destroy()
      await server.stop()
    },
  }
}

interface FirstTokenArgs {
  readonly count: number
  readonly tokens: number
  readonly switches: boolean
}

interface GapArgs {
  readonly streams: number
  readonly tokens: number
  readonly cold: boolean
}

await servePeer(open)
