// Peer dutyfree-http: the real server, asked over HTTP with streaming, as clients do.

import { performance } from 'node:perf_hooks'
import { pathToFileURL } from 'node:url'
import { percentile } from '../statistics.ts'
import { createStreams, modelId } from './http-streams.ts'
import { type Peer, type PeerInfo, type PrefillArgs, servePeer } from './protocol.ts'

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

async function open(spec: HttpPeerSpec): Promise<Peer> {
  const scripts = pathToFileURL(`${spec.root}/scripts/`)
  const { startServer } = await import(new URL('start-server.mjs', scripts).href)
  const probe = new URL('bench/peers/lag-probe.mjs', pathToFileURL(`${spec.root}/`)).href
  const server = await startServer({
    command: [process.execPath, '--import', probe, `${spec.root}/dist/server/main.js`],
    flags: ['--port', '0', '--host', '127.0.0.1', '--served-model-name', modelId, ...spec.flags],
    patienceMs: 600_000,
  })
  let isRunning = true
  // Whatever ends this peer ends its server.
  process.on('exit', () => {
    if (isRunning) process.kill(server.pid)
  })
  const client = createStreams(server.url, spec.past)
  const { ask, streamAll, decode, firstTokenMs, whole } = client

  /**
   * JavaScript that has just started is interpreted, and compiled beside the model on the same
   * cores: some hundred tokens pass before client, front and engine run at the speed of a server in
   * use.
   */
  function warmUp() {
    return streamAll(8, 100, [], whole.slice(0, 8))
  }

  let numReadings = 0
  /** Readings are numbered, not counted: only the end of the server's output is kept. */
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
      /** Median time to the first token; the adapter stays, or changes at each request. */
      async firstToken({ count, tokens, switches }: FirstTokenArgs) {
        const times: number[] = []
        for (let i = 0; i <= count; i++) {
          times.push(await firstTokenMs(tokens, switches ? i % 2 : 0))
        }
        return { value: percentile(times.slice(1), 0.5) }
      },
      /** The longest gap between two tokens of running streams while a request comes in. */
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
      client.close()
      await server.stop()
      isRunning = false
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
