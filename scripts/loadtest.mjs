// npm run loadtest -- <name…> [--url …] [--rate 2] [--duration 10m]
// Runs load tests in turn against a server that it starts itself unless --url names one. Each leaves
// JSON, Markdown and a figure in loadtest/results/. Exit code 99: something that must hold does not.

import { randomUUID } from 'node:crypto'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { partCores } from '../loadtest/runner/cores.mjs'
import { createProgress } from '../loadtest/runner/progress.mjs'
import { readReferences } from '../loadtest/runner/references.mjs'
import { isBroken, writeReport } from '../loadtest/runner/report.mjs'
import { runScenario } from '../loadtest/runner/run.mjs'
import { scenarios } from '../loadtest/runner/scenarios.mjs'
import { judgeRun } from '../loadtest/runner/verdicts.mjs'
import { ensureK6, howToGetK6 } from './k6.mjs'
import { python } from './python.mjs'
import { build, installNode, root } from './setup.mjs'
import { localFlags, startServer } from './start-server.mjs'

const names = Object.keys(scenarios)
const doesNotHold = 99
// A load test ends by itself and stays small: these bound what a typing error can do.
const maxRate = 500
const maxSeconds = 3600

const options = {
  url: { type: 'string' },
  rate: { type: 'string' },
  duration: { type: 'string' },
  results: { type: 'string', default: join(root, 'loadtest', 'results') },
  'correctness-only': { type: 'boolean', default: false },
  apart: { type: 'boolean', default: false },
  remote: { type: 'boolean', default: false },
  'no-build': { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
}
const usage = `npm run loadtest -- <${names.join('|')}>… [flags]
  --url <http://…>     a running server; without it one is started on a free port
  --rate <n>           requests a second, up to ${maxRate} (a share of the capacity that is measured)
  --duration <n>[s|m]  up to ${maxSeconds} s (the test's own; soak: 10m)
  --results <folder>   (loadtest/results)
  --correctness-only   show speed without judging it, on a machine that is not free
  --apart              the server on the first half of the cores, the clients on the others (Linux)
  --remote             allow a --url that is not this machine
  --no-build           use dist/ as it is
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
    if (positionals.length === 0) fail(`name a load test: ${names.join(', ')}`)
    const unknown = positionals.find((name) => !names.includes(name))
    if (unknown) fail(`no load test is called "${unknown}"; there are ${names.join(', ')}`)
    if (values.url !== undefined && values.apart) fail('--apart starts the server itself: no --url')
    if (values.url !== undefined) checkUrl(values.url, values.remote)
    const changing = positionals.find((name) => scenarios[name].changes)
    if (values.url !== undefined && changing && !process.env.DUTYFREE_ADMIN_KEY) {
      fail(`${changing} changes adapters: DUTYFREE_ADMIN_KEY must hold the server's admin key`)
    }
    return { ...values, names: positionals, given: readLoad(values) }
  } catch (error) {
    return fail(`${error.message}\n${usage}`)
  }
}

/** {rate, seconds}, each undefined where the test's own is to be taken. */
function readLoad({ rate, duration }) {
  const given = {}
  if (rate !== undefined) {
    given.rate = Number(rate)
    if (!(given.rate >= 0.1 && given.rate <= maxRate)) {
      fail(`--rate must be 0.1–${maxRate}; got ${rate}`)
    }
  }
  if (duration !== undefined) {
    const [, count, unit] = /^(\d+)(s|m)?$/.exec(duration) ?? []
    given.seconds = Number(count) * (unit === 'm' ? 60 : 1)
    if (!(given.seconds >= 1 && given.seconds <= maxSeconds)) {
      fail(`--duration must be 1s–${maxSeconds}s; got ${duration}`)
    }
  }
  return given
}

function checkUrl(text, allowRemote) {
  const url = URL.canParse(text) ? new URL(text) : fail(`--url is no URL: ${text}`)
  const isLocal = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)
  if (!isLocal && !allowRemote) fail(`${url.hostname} is not this machine; --remote allows it`)
}

async function readAbout(onlyCorrect, apart) {
  // Built by now.
  const { readCommit } = await import('../dist/bench/commit.js')
  const { commit, dirty } = readCommit(root)
  return {
    command: ['npm run loadtest --', ...process.argv.slice(2)].join(' '),
    date: new Date().toISOString().slice(0, 10),
    commit: `${commit}${dirty ? ' with changes' : ''}`,
    machine: `${cpus().length} cores, ${cpus()[0]?.model.trim() ?? 'unknown'}, Node ${process.versions.node}`,
    numServerCores: apart?.cores,
    onlyCorrect,
  }
}

/** Runs one test on a server of its own, or on the one that was named; whether all held. */
async function runOne(name, { k6, url: givenUrl, given, results, about, progress, prefix }) {
  const { maxQueue, thoughtTokens, changes } = scenarios[name]
  const own = givenUrl === undefined && changes ? ownAdapters() : undefined
  const flags = [
    ...localFlags,
    ...(maxQueue === undefined ? [] : ['--max-queue', String(maxQueue)]),
    ...(own === undefined ? [] : ['--adapters', own.adapters, '--admin-key', own.adminKey]),
  ]
  const server = givenUrl === undefined ? await startServer({ flags, prefix }) : undefined
  const abort = async () => {
    await server?.stop()
    process.exit(1)
  }
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, abort)
  try {
    const url = (givenUrl ?? server.url).replace(/\/+$/, '')
    const references = await readReferences(url, { thoughtTokens })
    const { targets, numDifferent } = references
    progress.note(
      `dutyfree: ${name} on ${url}; ${targets.length} targets, ${numDifferent} of them differ`,
    )
    const changing = own ?? {
      adapters: join(root, 'adapters'),
      adminKey: process.env.DUTYFREE_ADMIN_KEY,
    }
    const context = { url, server, references, k6, root, progress, ...changing }
    const run = await runScenario(context, name, given)
    const rows = judgeRun(run)
    const report = writeReport({ folder: results, root, python, run, rows, about })
    const broken = rows.filter((row) => isBroken(row, about.onlyCorrect))
    for (const { what, value, bound } of broken) {
      console.error(`dutyfree: ${name}: ${what} must be ${bound}; got ${value}`)
    }
    console.log(
      `dutyfree: ${name} ${broken.length === 0 ? 'holds' : 'FAILED'}: ${relative(root, report)}`,
    )
    return broken.length === 0
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, abort)
    await server?.stop()
    own?.remove()
  }
}

/** A copy of the adapters, which the load test changes, and a key that may. */
function ownAdapters() {
  const adapters = mkdtempSync(join(tmpdir(), 'dutyfree-loadtest-adapters-'))
  cpSync(join(root, 'adapters'), adapters, { recursive: true })
  const remove = () => rmSync(adapters, { recursive: true, force: true })
  return { adapters, adminKey: randomUUID(), remove }
}

const { names: asked, ...flags } = readArguments()
const k6 = ensureK6()
if (k6 === undefined) fail(howToGetK6)
if (!flags['no-build']) {
  installNode()
  if (build() !== 0) process.exit(1)
}
let apart
try {
  if (flags.apart) apart = partCores()
} catch (error) {
  fail(error.message)
}
const context = {
  k6,
  prefix: apart?.prefix,
  url: flags.url,
  given: flags.given,
  results: resolve(flags.results),
  about: await readAbout(flags['correctness-only'], apart),
  progress: createProgress(),
}
let allHold = true
try {
  for (const name of asked) allHold = (await runOne(name, context)) && allHold
} catch (error) {
  console.error(`dutyfree: ${error.message}`)
  process.exit(1)
}
process.exit(allHold ? 0 : doesNotHold)
