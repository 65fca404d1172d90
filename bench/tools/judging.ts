// What judging costs streams over HTTP: eight completions at once, whose verdicts come on one cadence,
// judged in none and in all ways by turns, on one server with a random guard of rank 16 and a probe.
//   node dist/bench/models/random-checkpoint.js qwen2.5-0.5b runs/random-0.5b
//   node dist/bench/tools/judging.js runs/random-0.5b [rounds, 5] [more flags of the server]

import { createHash } from 'node:crypto'
import { createReadStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { baseDigestOf } from '../../server/checkpoint/base-digest.ts'
import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import { writeRandomAdapter } from '../models/random-adapter.ts'
import { pairedRatios, percentile, spread } from '../statistics.ts'
import { startMeasuredServer } from './measured-server.ts'

const [folder = '', rounds = '5', ...flags] = process.argv.slice(2)
const [streams, promptTokens, replyTokens] = [8, 64, 256]
const modules = ['q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const
const calibration = { temperature: 1, threshold: 1 }

/** Scores of random numbers never reach the threshold, so text in block only waits. */
const ways: Readonly<Record<string, object | string>> = {
  off: 'off',
  'observe, every 32': { mode: 'observe', every: 32, threshold: 1 },
  'observe, every 64': { mode: 'observe', every: 64, threshold: 1 },
  'block, every 32': { mode: 'block', every: 32, threshold: 1 },
}

function safetensors(name: string, values: Float32Array): Buffer {
  const entry = { dtype: 'F32', shape: [1, values.length], data_offsets: [0, values.byteLength] }
  const header = Buffer.from(JSON.stringify({ [name]: entry }))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header, Buffer.from(values.buffer)])
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const part of createReadStream(path)) hash.update(part)
  return hash.digest('hex')
}

/** A guard of rank 16 and its probe; what it says means nothing. */
async function writeGuard(root: string): Promise<void> {
  const { config, ...checkpoint } = openCheckpoint(folder)
  checkpoint.close()
  writeRandomAdapter(root, 'guard', config, { rank: 16, modules, dtype: 'BF16', seed: 1 })
  const at = (name: string) => join(root, 'guard', name)
  const tokenizer = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'))
  const token = tokenizer.added_tokens.at(-1).id
  const peft = JSON.parse(readFileSync(at('adapter_config.json'), 'utf8'))
  writeFileSync(
    at('adapter_config.json'),
    JSON.stringify({ ...peft, alora_invocation_tokens: [token] }),
  )
  const name = 'model.safetensors'
  const place = { layer: config.numLayers >> 1, site: 'residual', tensor: 'probe.weight' }
  const manifest = {
    kind: 'guard',
    base_digest: baseDigestOf([{ name, sha256: await hashOf(join(folder, name)) }]),
    guard: {
      ...{ token, labels: { safe: 10, unsafe: 11 }, ...calibration, carriers: [] },
      probe: { ...place, bias: -1000, ...calibration },
    },
  }
  writeFileSync(at('manifest.json'), JSON.stringify(manifest))
  const direction = new Float32Array(config.hiddenSize).fill(0.01)
  writeFileSync(at('probe.safetensors'), safetensors(place.tensor, direction))
}

interface Reply {
  readonly firstMs: number
  readonly numVerdicts: number
}

/** Of front and engine. With one thread (`--threads 1`) nothing spins, and a busy machine changes it least. */
function cpuMs(pids: Readonly<Record<string, number>>): number {
  const ticks = Object.values(pids).map((pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return Number(fields[11]) + Number(fields[12])
  })
  return 10 * ticks.reduce((sum, own) => sum + own, 0)
}

function shareOf(own: readonly number[], of: readonly number[]): string {
  const { median, min, max } = pairedRatios(own, of)
  return `${median.toFixed(3)} (${min.toFixed(3)}–${max.toFixed(3)})`
}

/** Rejects unless all tokens came and the reply was judged as asked. */
async function reply(url: string, safety: object | string, seed: number): Promise<Reply> {
  const start = performance.now()
  const body = {
    ...{ model: 'random', max_tokens: replyTokens, ignore_eos: true, temperature: 0, stream: true },
    prompt: Array.from({ length: promptTokens }, (_, i) => ((i * 37 + seed * 101) % 600) + 5),
    stream_options: { include_usage: true },
    safety,
  }
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (response.status !== 200) throw new Error(await response.text())
  let rest = ''
  let found = { firstMs: Number.NaN, numVerdicts: 0 }
  let numTokens = 0
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    const events = (rest + part).split('\n\n')
    rest = events.pop() ?? ''
    for (const event of events.filter((line) => line.startsWith('data: {'))) {
      const chunk = JSON.parse(event.slice('data: '.length))
      const isFirst = Number.isNaN(found.firstMs) && chunk.choices?.[0]?.text
      if (isFirst) found = { ...found, firstMs: performance.now() - start }
      if (chunk.safety?.verdicts) found = { ...found, numVerdicts: chunk.safety.verdicts }
      numTokens = chunk.usage?.completion_tokens ?? numTokens
    }
  }
  if (numTokens !== replyTokens) throw new Error(`${numTokens} tokens of ${replyTokens}: ${rest}`)
  const isJudged = found.numVerdicts > 0
  if (isJudged !== (safety !== 'off')) throw new Error(`${found.numVerdicts} verdicts`)
  return found
}

const root = mkdtempSync(join(tmpdir(), 'dutyfree-judging-'))
try {
  await writeGuard(root)
  const more = [
    '--model',
    folder,
    '--served-model-name',
    'random',
    '--adapters',
    root,
    '--safety',
    'off',
  ]
  const server = await startMeasuredServer([...more, '--max-batch', `${streams}`, ...flags])
  const rates = new Map(Object.keys(ways).map((name) => [name, [] as number[]]))
  const cpus = new Map(Object.keys(ways).map((name) => [name, [] as number[]]))
  const firsts = new Map(Object.keys(ways).map((name) => [name, [] as number[]]))
  const verdicts = new Map<string, number>()
  try {
    for (let round = -1; round < Number(rounds); round++) {
      for (const [name, safety] of Object.entries(ways)) {
        const start = performance.now()
        const before = cpuMs(server.pids())
        const replies = await Promise.all(
          Array.from({ length: streams }, (_, i) => reply(server.url, safety, i)),
        )
        const seconds = (performance.now() - start) / 1000
        const cpu = cpuMs(server.pids()) - before
        if (round < 0) continue
        cpus.get(name)!.push(cpu / (streams * replyTokens))
        rates.get(name)!.push((streams * replyTokens) / seconds)
        firsts.get(name)!.push(...replies.map(({ firstMs }) => firstMs))
        verdicts.set(name, replies[0]!.numVerdicts)
      }
    }
  } finally {
    server.stop()
  }
  console.log(
    '| judged | tokens/s | of off | processor ms a token | of off | verdicts a reply | first text p50 / p95, ms |',
  )
  console.log('| --- | --- | --- | --- | --- | --- | --- |')
  for (const [name, own] of rates) {
    const share = shareOf(own, rates.get('off')!)
    const cpu = spread(cpus.get(name)!).median.toFixed(2)
    const cpuShare = shareOf(cpus.get(name)!, cpus.get('off')!)
    const [p50, p95] = [0.5, 0.95].map((p) => percentile(firsts.get(name)!, p).toFixed(0))
    const speed = spread(own).median.toFixed(1)
    const processor = `${cpu} | ${cpuShare}`
    console.log(
      `| ${name} | ${speed} | ${share} | ${processor} | ${verdicts.get(name)} | ${p50} / ${p95} |`,
    )
  }
} finally {
  rmSync(root, { recursive: true, force: true })
}
