// A run as files: NAME.json for machines, NAME.md for people, NAME.png where matplotlib is at hand.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { quantile } from './statistics.mjs'

const fields = ['atSeconds', 'running', 'waiting', 'tokens', 'rssMiB', 'frontRssMiB', 'descriptors']
const short = (value) => (value === undefined ? null : Number(value.toFixed(2)))

/** Whether a row counts: speed says nothing where the machine was busy with something else. */
export const isBroken = (row, onlyCorrect) =>
  row.holds === false && (row.kind === 'correct' || !onlyCorrect)

/** Writes the files; gives the path of the Markdown. */
export function writeReport({ folder, root, python, run, rows, about }) {
  mkdirSync(folder, { recursive: true })
  const path = join(folder, run.name)
  writeFileSync(`${path}.json`, `${JSON.stringify(toJson(run, rows, about))}\n`)
  const hasFigure = python !== undefined && plot({ root, python, path })
  writeFileSync(`${path}.md`, render({ run, rows, about, hasFigure }))
  return `${path}.md`
}

function toJson({ k6, samples, streams, ...rest }, rows, about) {
  const metrics = Object.fromEntries(
    Object.entries(k6.metrics).map(([name, { values }]) => [name, values]),
  )
  const column = (name) => samples.map((sample) => short(sample[name]))
  return {
    ...about,
    ...rest,
    rows,
    k6: metrics,
    samples: Object.fromEntries(fields.map((name) => [name, column(name)])),
    streams: {
      atSeconds: streams.records.map(({ atSeconds }) => short(atSeconds)),
      firstMs: streams.records.map(({ firstMs }) => short(firstMs)),
      end: streams.records.map(({ end }) => end),
      gapsMs: [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1].map((share) => [
        share,
        short(quantile(streams.gaps, share)),
      ]),
    },
  }
}

function plot({ root, python, path }) {
  if (!existsSync(python)) return false
  const script = join(root, 'loadtest', 'plot.py')
  const { status, stderr } = spawnSync(python, [script, `${path}.json`, `${path}.png`], {
    encoding: 'utf8',
    timeout: 120_000,
  })
  if (status !== 0) console.error(`loadtest: no figure: ${stderr.trim().split('\n').at(-1)}`)
  return status === 0
}

const words = { true: 'yes', false: '**no**', null: 'not measured' }

function render({ run, rows, about, hasFigure }) {
  const { onlyCorrect } = about
  const numBroken = rows.filter((row) => isBroken(row, onlyCorrect)).length
  const table = (head, lines) => [
    `| ${head.join(' | ')} |`,
    `|${' --- |'.repeat(head.length)}`,
    ...lines.map((cells) => `| ${cells.join(' | ')} |`),
    '',
  ]
  const { peak, goodput, loadAverage } = run
  const mean = (value) => value.toFixed(1)
  return [
    `# ${run.name}: ${numBroken === 0 ? 'holds' : `${numBroken} of ${rows.length} do not hold`}`,
    '',
    `- **Command.** \`${about.command}\``,
    `- **Machine.** ${about.machine}; load ${mean(loadAverage.before)} before and ` +
      `${mean(loadAverage.after)} after.`,
    ...(about.numServerCores === undefined
      ? []
      : [
          `- **Apart.** Cores for the server: ${about.numServerCores}; the others for the clients.`,
        ]),
    `- **Commit.** ${about.commit}, ${about.date}.`,
    `- **Load.** ${mean(run.rate)} requests a second for ${run.seconds} s, ${run.numTargets} targets.`,
    ...(peak
      ? [
          `- **Capacity.** ${mean(peak.requestsPerSecond)} requests/s, ${mean(peak.tokensPerSecond)} tokens/s.`,
        ]
      : []),
    ...(goodput ? [`- **Goodput in the spike.** ${mean(goodput)} tokens/s.`] : []),
    ...(run.cores.front === undefined ? [] : [`- **Cores in use.** ${coresLine(run)}.`]),
    ...(onlyCorrect
      ? ['- **Judged.** Correctness only: the machine was not free, so speed is shown, not judged.']
      : []),
    '',
    ...table(
      ['what', 'measured', 'must be', 'holds'],
      rows.map((row) => [
        row.what,
        row.value,
        row.bound,
        row.kind === 'speed' && onlyCorrect ? `${words[row.holds]} (not judged)` : words[row.holds],
      ]),
    ),
    ...table(['ms', 'median', 'p90', 'p95', 'p99', 'most', 'of'], latencies(run)),
    ...(hasFigure ? [`![${run.name} over time](${run.name}.png)`, ''] : []),
  ].join('\n')
}

function coresLine({ name, cores, peak }) {
  const line = ({ front, engine, clients }) =>
    `front ${front.toFixed(2)}, engine ${engine.toFixed(2)}, clients ${clients.toFixed(2)}`
  const atPeak = peak?.cores.front === undefined ? '' : `;\n  at capacity ${line(peak.cores)}`
  return `${name === 'spike' ? 'In the spike ' : ''}${line(cores)}${atPeak}`
}

/** Gaps that ended while a merge or unmerge was under way. */
function gapsWhileMerging({ gaps, gapEnds = [] }, changed) {
  const merges = changed?.changes.filter(({ what }) => /merge$/.test(what)) ?? []
  const isWithin = (at) =>
    merges.some(({ atSeconds, ms }) => atSeconds <= at && at <= atSeconds + ms / 1000)
  return gaps.filter((_, i) => gapEnds[i] !== undefined && isWithin(gapEnds[i]))
}

function latencies({ k6, streams, changed }) {
  const { records, gaps } = streams
  const first = records.flatMap(({ firstMs }) => (firstMs === undefined ? [] : [firstMs]))
  const refused = records.filter(({ end }) => end === 'refused').map(({ ms }) => ms)
  const kinds = [...new Set(changed?.changes.map(({ what }) => what))]
  const took = (kind) => changed.changes.filter(({ what }) => what === kind).map(({ ms }) => ms)
  const own = [
    ...kinds.map((kind) => [`${kind} of an adapter, until its answer`, took(kind)]),
    ['first token (Node client)', first],
    ['between pieces of text (Node client)', gaps],
    ['the same while the weights changed', gapsWhileMerging(streams, changed)],
    ['to a 429 (Node client)', refused],
  ]
    .filter(([, values]) => values.length > 0)
    .map(([name, values]) => [
      name,
      ...[0.5, 0.9, 0.95, 0.99, 1].map((share) => quantile(values, share).toFixed(1)),
      values.length,
    ])
  const ofK6 = [
    ['whole answer (k6)', k6.metrics.answer_ms, k6.metrics.answered],
    ['to a 429 (k6)', k6.metrics.refused_ms, k6.metrics.refused],
  ]
    .filter(([, trend, count]) => trend !== undefined && count?.values.count > 0)
    .map(([name, { values }, count]) => [
      name,
      ...['med', 'p(90)', 'p(95)'].map((key) => values[key].toFixed(1)),
      '–',
      values.max.toFixed(1),
      count.values.count,
    ])
  return [...ofK6, ...own]
}
