// npm run loadtest -- [smoke|adapter-switch] [--url …] [--rate 2] [--duration 20s]
// Runs one k6 script, or both in turn, against a server that it starts itself unless --url names one.
// Reports go to loadtest/reports/ (JSON and Markdown). Exits with k6's code: 99 is a broken threshold.

import { spawn } from 'node:child_process'
import { appendFileSync, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { ensureK6, howToGetK6 } from './k6.mjs'
import { build, installNode, root } from './setup.mjs'
import { startServer } from './start-server.mjs'

const scripts = ['smoke', 'adapter-switch']
// A load test ends by itself and stays small: these bound what a typing error can do.
const maxRate = 200
const maxSeconds = 600

const options = {
  url: { type: 'string' },
  rate: { type: 'string', default: '2' },
  duration: { type: 'string', default: '20s' },
  reports: { type: 'string', default: join(root, 'loadtest', 'reports') },
  remote: { type: 'boolean', default: false },
  'no-build': { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
}
const usage = `npm run loadtest -- [${scripts.join('|')}] [flags]
  --url <http://…>   a running server; without it one is started on a free port
  --rate <n>         requests a second, up to ${maxRate} (2)
  --duration <n>s    up to ${maxSeconds}s (20s)
  --reports <folder> (loadtest/reports)
  --remote           allow a --url that is not this machine
  --no-build         use dist/ as it is
`

function fail(message) {
  console.error(`dutyfree: ${message}`)
  process.exit(2)
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({ options, allowPositionals: true })
    if (values.help) {
      process.stdout.write(usage)
      process.exit(0)
    }
    const unknown = positionals.find((name) => !scripts.includes(name))
    if (unknown) fail(`no load test is called "${unknown}"; there are ${scripts.join(' and ')}`)
    const rate = Number(values.rate)
    if (!(rate >= 0.1 && rate <= maxRate)) fail(`--rate must be 0.1–${maxRate}; got ${values.rate}`)
    const seconds = Number(/^(\d+)s?$/.exec(values.duration)?.[1])
    if (!(seconds >= 1 && seconds <= maxSeconds)) {
      fail(`--duration must be 1s–${maxSeconds}s; got ${values.duration}`)
    }
    if (values.url !== undefined) checkUrl(values.url, values.remote)
    return { ...values, rate, seconds, names: positionals.length ? positionals : scripts }
  } catch (error) {
    return fail(`${error.message}\n${usage}`)
  }
}

function checkUrl(text, allowRemote) {
  const url = URL.canParse(text) ? new URL(text) : fail(`--url is no URL: ${text}`)
  const isLocal = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)
  if (!isLocal && !allowRemote) fail(`${url.hostname} is not this machine; --remote allows it`)
}

/** Runs one script; resolves to k6's exit code. */
function runScript(k6, name, url, { rate, seconds, reports }) {
  mkdirSync(reports, { recursive: true })
  const stamp = new Date().toISOString().slice(0, 19).replaceAll(':', '')
  const report = join(reports, `${name}-${stamp}`)
  const child = spawn(
    k6,
    ['run', '--quiet', '--no-usage-report', join(root, 'loadtest', `${name}.js`)],
    {
      cwd: root,
      stdio: 'inherit',
      // Past its own duration and gracefulStop k6 is stuck.
      timeout: (seconds + 180) * 1000,
      env: {
        ...process.env,
        BASE_URL: url.replace(/\/+$/, ''),
        RATE: String(rate),
        DURATION: `${seconds}s`,
        REPORT: report,
        API_KEY: process.env.DUTYFREE_API_KEY?.split(',')[0] ?? '',
        // A proxy in the environment would see, and slow, requests to this machine.
        NO_PROXY: '127.0.0.1,localhost,::1',
      },
    },
  )
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => child.kill(signal))
  return new Promise((done, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => done({ code: code ?? 1, report }))
  })
}

const histograms = {
  'time to first token': 'vllm:time_to_first_token_seconds',
  'between tokens': 'vllm:inter_token_latency_seconds',
}

/** What only the server sees, from its histograms; the run's share where it ran before. */
async function readHistograms(url) {
  const key = process.env.DUTYFREE_API_KEY?.split(',')[0]
  const headers = key ? { authorization: `Bearer ${key}` } : {}
  const response = await fetch(new URL('/metrics', url), {
    headers,
    signal: AbortSignal.timeout(10_000),
  })
  const page = response.ok ? await response.text() : ''
  const sum = (series) =>
    page
      .split('\n')
      .filter((line) => line.startsWith(`${series}{`) || line.startsWith(`${series} `))
      .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' '))), 0)
  return Object.fromEntries(
    Object.entries(histograms).map(([name, series]) => [
      name,
      { seconds: sum(`${series}_sum`), count: sum(`${series}_count`) },
    ]),
  )
}

function reportHistograms(report, before, after) {
  const lines = Object.keys(histograms).map((name) => {
    const count = after[name].count - before[name].count
    const ms = ((after[name].seconds - before[name].seconds) / count) * 1000
    return `${name}: mean ${ms.toFixed(1)} ms over ${count} (the server's own histogram)`
  })
  appendFileSync(`${report}.md`, `\n${lines.join('  \n')}\n`)
  console.log(`${lines.join('\n')}\nreport: ${report}.md`)
}

const given = readArguments()
const k6 = ensureK6()
if (k6 === undefined) fail(howToGetK6)
const settings = { ...given, reports: resolve(given.reports) }
if (given.url === undefined && !given['no-build']) {
  installNode()
  if (build() !== 0) process.exit(1)
}
const server = given.url === undefined ? await startServer() : undefined
let exitCode = 0
try {
  const url = given.url ?? server.url
  for (const name of given.names) {
    console.log(`dutyfree: ${name} on ${url}`)
    const before = await readHistograms(url)
    const { code, report } = await runScript(k6, name, url, settings)
    if (code === 0 || code === 99) reportHistograms(report, before, await readHistograms(url))
    exitCode ||= code
  }
} finally {
  await server?.stop()
}
process.exit(exitCode)
