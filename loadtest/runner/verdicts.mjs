// What a run must hold, from everything that was measured; pure. A row is {what, value, bound, holds,
// kind}: `correct` is judged always, `speed` only where the machine was free. `holds` is null where
// nothing could be measured.

import { scenarios } from './scenarios.mjs'
import { lineThrough, quantile } from './statistics.mjs'

/** k6's thresholds that depend on how fast the machine was; a refusal says that it was too slow. */
const speedMetrics = ['answer_ms', 'refused_ms', 'refused', 'dropped_iterations']
/** Before it memory still grows into its place. */
const warmUpShare = 1 / 3
const slopeSeconds = 60
/** Of RSS, in percent. */
const maxGrowth = 1
/** Standard errors on either side of a 95 % interval. */
const confidence = 1.96
/** In each the lowest counts: what is above it is garbage that nobody has collected yet. */
const floorSeconds = 30

const row = (kind, what, value, bound, holds) => ({ kind, what, value, bound, holds })
const atMost = (kind, what, value, bound, unit) =>
  value === undefined
    ? row(kind, what, 'not measured', `≤ ${bound} ${unit}`, null)
    : row(kind, what, `${round(value)} ${unit}`, `≤ ${bound} ${unit}`, value <= bound)

const round = (value) => Number(value.toFixed(value < 10 ? 2 : 1))

export function judgeRun(run) {
  const { name, streams, shutdown } = run
  const { bounds = {}, endsInShutdown } = scenarios[name]
  return [
    ...k6Rows(run.k6),
    ...streamRows(streams, bounds),
    ...(name === 'spike' ? spikeRows(run, bounds) : []),
    ...(run.changed === undefined ? [] : changeRows(run)),
    ...(name === 'disconnects' ? leaverRows(run) : []),
    ...(name === 'soak' ? memoryRows(run.samples) : []),
    ...restRows(run),
    ...(endsInShutdown ? shutdownRows(shutdown) : []),
  ]
}

const valueNames = { count: 'count', rate: 'rate', med: 'med', 'p(95)': 'p(95)' }

function k6Rows({ metrics }) {
  return Object.entries(metrics).flatMap(([metric, { values, thresholds }]) =>
    Object.entries(thresholds ?? {}).map(([rule, { ok }]) => {
      const kind = speedMetrics.includes(metric.split('{')[0]) ? 'speed' : 'correct'
      const [, left, bound] = /^([a-z0-9()]+)(.*)$/.exec(rule)
      const value = values[valueNames[left]] ?? 0
      return row(kind, `k6: ${metric}, ${left}`, String(round(value)), bound, ok)
    }),
  )
}

function streamRows({ records, gaps }, bounds) {
  const numLost = records.filter(({ end }) => end === 'lost').length
  const numWrong = records.filter(({ isWrong }) => isWrong).length
  const first = records.flatMap(({ firstMs }) => (firstMs === undefined ? [] : [firstMs]))
  const rows = [
    row('correct', 'Node client: lost', String(numLost), '= 0', numLost === 0),
    row('correct', 'Node client: wrong adapter or text', String(numWrong), '= 0', numWrong === 0),
  ]
  const speed = (what, values, bound) => {
    if (bound !== undefined) rows.push(atMost('speed', what, quantile(values, 0.95), bound, 'ms'))
  }
  speed('first token, p95', first, bounds.firstTokenP95)
  speed('between tokens, p95', gaps, bounds.betweenTokensP95)
  return rows
}

function spikeRows({ goodput, peak, streams }, { refusedMedian }) {
  const refused = streams.records.filter(({ end }) => end === 'refused').map(({ ms }) => ms)
  const share = goodput === undefined ? undefined : goodput / peak.tokensPerSecond
  const value = share === undefined ? 'not measured' : `${(share * 100).toFixed(1)} %`
  return [
    row(
      'speed',
      'goodput in the spike, of peak',
      value,
      '≥ 90 %',
      share === undefined ? null : share >= 0.9,
    ),
    atMost('speed', 'Node client: to a 429, median', quantile(refused, 0.5), refusedMedian, 'ms'),
  ]
}

function changeRows({ changed: { changes, bad }, remains }) {
  const numFailed = changes.filter(({ error }) => error !== undefined).length
  const kinds = new Set(changes.map(({ what }) => what)).size
  const numRefused = bad.filter(({ error }) => error === undefined).length
  const { before, listed, staged, isFreed } = remains
  const isAsBefore = listed.join() === before.join() && staged.length === 0 && isFreed
  const state = `${listed.join(', ')}; ${staged.length} uploads staged; freed: ${isFreed}`
  return [
    row(
      'correct',
      'changes that failed',
      `${numFailed} of ${changes.length}`,
      '0, of each of 6 kinds some',
      numFailed === 0 && kinds === 6,
    ),
    row(
      'correct',
      'bad uploads refused, each with its code',
      `${numRefused} of ${bad.length}`,
      'all',
      numRefused === bad.length && bad.length > 0,
    ),
    row(
      'correct',
      'adapters after all changes',
      isAsBefore ? 'as before' : state,
      'as before',
      isAsBefore,
    ),
  ]
}

function leaverRows({ samples }) {
  const numSeen = samples.at(-1).disconnects - samples[0].disconnects
  return [row('correct', 'clients that the server saw leave', String(numSeen), '> 0', numSeen > 0)]
}

/**
 * The load makes the memory swing, so a slope has an interval, and growth counts where it is beyond chance:
 * where the whole interval lies above the bound.
 */
function memoryRows(samples) {
  const what = 'RSS slope after warm-up, in ten minutes'
  const bound = `≤ ${maxGrowth} %, but for chance`
  const end = samples.at(-1).atSeconds
  const kept = samples.filter(({ atSeconds }) => atSeconds >= warmUpShare * end)
  const isLong = end * (1 - warmUpShare) >= slopeSeconds
  const line = isLong ? lineThrough(lowestOf(kept, 'rssMiB'), 'rssMiB') : undefined
  if (line === undefined) return [row('correct', what, 'not measured', bound, null)]
  const percent = (perSecond, { mean }) => (perSecond * 600 * 100) / mean
  const growth = percent(line.perSecond, line)
  const chance = percent(confidence * line.error, line)
  const others = [
    ['all samples', 'rssMiB'],
    ['of the front', 'frontRssMiB'],
  ].flatMap(([who, name]) => {
    const all = lineThrough(kept, name)
    return all ? [`${who}: ${round(percent(all.perSecond, all))} %`] : []
  })
  const value = `${round(growth)} ± ${round(chance)} % (${others.join(', ')})`
  return [row('correct', what, value, bound, growth - chance <= maxGrowth)]
}

/** The lowest sample of each stretch. */
function lowestOf(samples, name) {
  const lowest = new Map()
  for (const sample of samples) {
    const stretch = Math.floor(sample.atSeconds / floorSeconds)
    const best = lowest.get(stretch)
    if (best === undefined || sample[name] < best[name]) lowest.set(stretch, sample)
  }
  return [...lowest.values()]
}

function restRows({ rest, samples, idle }) {
  const numRestarts = samples.at(-1).restarts - samples[0].restarts
  const rows = [
    row(
      'correct',
      'all work ended after the last request',
      idle ?? 'yes',
      'yes',
      idle === undefined,
    ),
    row('correct', 'engine restarts', String(numRestarts), '= 0', numRestarts === 0),
  ]
  const { before, after } = rest
  const isKnown = before !== undefined && after !== undefined
  const value = isKnown ? `${before} → ${after}` : 'not measured'
  rows.push(
    row('correct', 'descriptors at rest', value, 'no growth', isKnown ? after <= before : null),
  )
  return rows
}

function shutdownRows(shutdown) {
  if (shutdown === undefined) {
    return [row('correct', 'SIGTERM under load', 'not measured', 'a server started here', null)]
  }
  const { numStreams, numWhole, seconds, exitCode, newcomer, errors = [] } = shutdown
  const isTurnedAway = newcomer === 503 || newcomer === 'connection refused'
  return [
    row(
      'correct',
      'SIGTERM: streams whole',
      [`${numWhole} of ${numStreams}`, ...errors].join('; '),
      'all',
      numWhole === numStreams,
    ),
    row('correct', 'SIGTERM: a new request gets', String(newcomer), '503 or refused', isTurnedAway),
    row('correct', 'SIGTERM: exit code', String(exitCode), '0', exitCode === 0),
    atMost('correct', 'SIGTERM: until the exit', seconds, 30, 's'),
  ]
}
