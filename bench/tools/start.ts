// A server's start as its user sees it: until it is ready, until the first token, tokens/s of one
// stream, and the peak memory of front and engine. Prints one line. The model has at least 49,000
// tokens, as the random checkpoints have; their conversion is part of a first start.
//   node dist/bench/tools/start.js [--tokens 32] --model runs/bench/r1-qwen-7b --weights int4

import { readFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { createStreams, modelId } from '../peers/http-streams.ts'
import { startMeasuredServer } from './measured-server.ts'

const promptTokens = 32

/** Most memory that a process ever had, in MiB. */
function peakMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Math.round(Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1]) / 1024)
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`
}

const { values, tokens: parsed } = parseArgs({
  options: { tokens: { type: 'string', default: '32' } },
  strict: false,
  tokens: true,
})
const own = parsed.find((token) => token.kind === 'option' && token.name === 'tokens')
const given = process.argv.slice(2)
if (own !== undefined) given.splice(own.index, 2)
const begun = performance.now()
const server = await startMeasuredServer([
  ...['--host', '127.0.0.1', '--served-model-name', modelId],
  ...given,
])
const readyMs = performance.now() - begun
const { ask, firstTokenMs, whole, close } = createStreams(server.url, promptTokens)
try {
  const firstMs = await firstTokenMs(promptTokens, null)
  const stream = ask({ prompt: whole, maxTokens: Number(values.tokens), adapter: null })
  await stream.finished
  const { arrivals } = stream
  const rate = (1000 * (arrivals.length - 1)) / (arrivals.at(-1)! - arrivals[0]!)
  const { front, engine } = server.pids()
  console.log(
    `ready after ${seconds(readyMs)} · first token of ${promptTokens} after ${seconds(firstMs)} · ` +
      `${rate.toFixed(1)} tokens/s, 1 stream · peak memory: engine ${peakMiB(engine)} MiB, ` +
      `front ${peakMiB(front)} MiB · load ${loadavg()[0]!.toFixed(1)}`,
  )
} finally {
  close()
  server.stop()
}
