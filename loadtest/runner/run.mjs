// One load test from beginning to end: k6, the Node client and the watch beside one another.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { beginLive, createApi, endLive, liveName, startChanges } from './adapter-changes.mjs'
import { runK6 } from './k6.mjs'
import { calmSeconds, capacitySeconds, capacityWarmUpSeconds, scenarios } from './scenarios.mjs'
import { shutDownUnderLoad } from './shutdown.mjs'
import { rateOf, slopeOf } from './statistics.mjs'
import { startStreams } from './streams.mjs'
import { restingDescriptors, startWatch, waitUntilIdle } from './watch.mjs'

/** In the capacity's measurement: twice what runs at once by default. */
const numUsers = 16
/** Beyond the last arrival: what waits is answered, and k6 makes its summary. */
const patienceSeconds = 240
const restSeconds = 12
/** Of the end of a load, that say what the server does in a second now. */
const latelySeconds = 60
/** Of the server, by default: what runs at once, and what waits beyond. */
const maxBatch = 8
const defaultQueue = 256

/** {requestsPerSecond, tokensPerSecond, cores}: the most that the server does, after the start. */
async function measureCapacity(context) {
  const { samples, k6 } = await load(context, 'capacity', {
    seconds: capacitySeconds,
    settings: { VUS: numUsers, DURATION: `${capacitySeconds}s` },
  })
  const window = { from: capacityWarmUpSeconds, to: capacitySeconds }
  const requestsPerSecond = rateOf(samples, 'finished', window)
  const numWrong = k6.metrics.wrong_adapter?.values.count ?? 0
  if (numWrong > 0)
    throw new Error(`${numWrong} answers were wrong while the capacity was measured`)
  return {
    requestsPerSecond,
    tokensPerSecond: slopeOf(samples, 'tokens', window),
    cores: coresIn(samples, window),
  }
}

/** Cores that front, engine and clients used; each undefined where the processes are not known. */
const coresIn = (samples, window) => ({
  front: rateOf(samples, 'frontCpu', window),
  engine: rateOf(samples, 'engineCpu', window),
  clients: rateOf(samples, 'clientCpu', window),
})

/** `given` is {rate, seconds} where the caller named them. Gives all that was measured. */
export async function runScenario(context, name, given) {
  const { url, server } = context
  const scenario = scenarios[name]
  const seconds = given.seconds ?? scenario.seconds
  const needsPeak = scenario.share !== undefined && (given.rate === undefined || name === 'spike')
  const peak = needsPeak ? await measureCapacity(context) : undefined
  const rate = given.rate ?? scenario.rate ?? peak.requestsPerSecond * scenario.share
  // k6 makes at least half of the load.
  const streamsPerSecond = Math.min(scenario.streamsPerSecond, rate / 2)
  const live = scenario.changes && (await openLive(context))
  const references = live?.references ?? context.references
  await waitUntilIdle(url, 60)
  const before = server && (await restingDescriptors(server.pid, restSeconds))
  const loadBefore = loadavg()[0]
  // The calm after the spike begins when the server has done what it took in.
  const inServer = maxBatch + ((server && scenario.maxQueue) ?? defaultQueue)
  const drainSeconds = peak ? Math.ceil((inServer / peak.requestsPerSecond) * 1.5) + 5 : 0
  const allSeconds = name === 'spike' ? 2 * calmSeconds + seconds + drainSeconds : seconds
  const measured = await load({ ...context, references }, name, {
    seconds: allSeconds,
    changes: live && { ...live.changing, ...scenario.changes },
    streamsPerSecond,
    settings: {
      RATE: Math.max(0.1, rate - streamsPerSecond),
      DURATION: `${seconds}s`,
      P95_MS: scenario.bounds?.answerP95 ?? 60_000,
      ...(name === 'spike' && {
        CAPACITY: peak.requestsPerSecond,
        CALM_SECONDS: calmSeconds,
        SECONDS: seconds,
        DRAIN_SECONDS: drainSeconds,
        IN_SERVER: inServer,
        REFUSED_MS: scenario.bounds.refusedMedian,
      }),
    },
  })
  const after = server && (await restingDescriptors(server.pid, restSeconds, before))
  // The first seconds of the spike only fill the queue.
  const window =
    name === 'spike'
      ? { from: calmSeconds + 2, to: calmSeconds + seconds }
      : { from: 0, to: seconds }
  return {
    name,
    rate,
    seconds,
    numTargets: references.targets.length,
    peak,
    goodput: name === 'spike' ? slopeOf(measured.samples, 'tokens', window) : undefined,
    cores: coresIn(measured.samples, window),
    loadAverage: { before: loadBefore, after: loadavg()[0] },
    ...measured,
    rest: { before, after },
    remains: live && { before: live.before, ...(await endLive(live.changing.api, context)) },
    shutdown:
      scenario.endsInShutdown && server
        ? await shutDownUnderLoad({
            url,
            server,
            references: context.references,
            tokensPerSecond: fewestTokens(peak, measured.samples),
          })
        : undefined,
  }
}

/** What is left of the capacity when others have taken of the machine since it was measured. */
function fewestTokens(peak, samples) {
  const end = samples.at(-1).atSeconds
  const lately = slopeOf(samples, 'tokens', { from: end - latelySeconds, to: end })
  return Math.min(peak?.tokensPerSecond ?? Number.POSITIVE_INFINITY, lately ?? Infinity)
}

/** Brings the adapter that is replaced into service, and the references of all that it may be. */
async function openLive({ url, adminKey, adapters, references }) {
  const api = createApi({ url, adminKey })
  const { contents, firstDigest, before } = await beginLive({ api, folder: adapters, references })
  return {
    changing: { api, contents, firstDigest },
    before,
    references: {
      ...references,
      targets: [...references.targets, liveName],
      byDigest: Object.fromEntries(contents.map(({ digest, texts }) => [digest, texts])),
    },
  }
}

async function load(context, script, { seconds, streamsPerSecond = 0, settings, changes: plan }) {
  const { url, server, references, root, progress } = context
  const folder = mkdtempSync(join(tmpdir(), 'dutyfree-loadtest-'))
  const file = join(folder, 'references.json')
  writeFileSync(file, JSON.stringify(references))
  const changes = plan && startChanges({ ...plan, seconds })
  const streams =
    streamsPerSecond > 0
      ? startStreams({ url, references, perSecond: streamsPerSecond, changes })
      : undefined
  const numFailed = () => (streams?.numFailed ?? 0) + (changes?.numFailed ?? 0)
  const watch = startWatch({
    url,
    pid: server?.pid,
    onSample: (samples) => progress.show(script, seconds, samples, numFailed()),
  })
  try {
    const k6 = await runK6({
      k6: context.k6,
      script: join(root, 'loadtest', 'k6', `${script}.js`),
      folder,
      settings: { BASE_URL: url, REFERENCES: file, ...settings },
      limitSeconds: seconds + patienceSeconds,
      onLine: (line) => progress.note(line),
    })
    const ended = await streams?.stop()
    const changed = await changes?.stop()
    let idle
    await waitUntilIdle(url, 60).catch((error) => {
      idle = error.message
    })
    const samples = await watch.stop()
    if (samples.length === 0) throw new Error(`${url}/metrics could not be read once`)
    return { k6, streams: ended ?? { records: [], gaps: [] }, changed, samples, idle }
  } finally {
    await streams?.stop()
    await changes?.stop()
    await watch.stop()
    progress.end()
    rmSync(folder, { recursive: true, force: true })
  }
}
