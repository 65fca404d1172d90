// results/history.csv: a row for every comparison of every run, so that a run can be looked up when
// its files have made room for a later one's.

import { appendFileSync, existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { slugOf } from './machine.ts'
import { showTarget } from './report.ts'
import {
  engineName,
  outcomesOf,
  type PeerRatio,
  type Results,
  type SectionResult,
} from './results.ts'

export const historyHeads = [
  'run',
  'date',
  'commit',
  'dirty',
  'machine',
  'command',
  'shape',
  'comparison',
  'median',
  'min',
  'max',
  'rounds',
  'target',
  'met',
] as const

/** The run's name in the history and wherever it is cited: 2026-11-27T1455-quick. */
export function runOf({ date, command }: Pick<Results, 'date' | 'command'>): string {
  const isQuick = command.split(' ').includes('--quick')
  return `${date.slice(0, 16).replace(':', '')}${isQuick ? '-quick' : ''}`
}

/** Lines of the file, without their ends. */
export function historyRows(results: Results): string[] {
  const { date, commit, dirty, machine, command, sections } = results
  const about = [runOf(results), date, commit, yesNo(dirty), slugOf(machine), command]
  return sections.flatMap((result) =>
    outcomesOf(result).map(({ comparison, peers, spread, isMet }) =>
      csvLine([
        ...about,
        result.section.shape,
        peers[0] === undefined
          ? comparison.what
          : `${comparison.what} (${nameOf(result, peers[0])})`,
        ...[spread.median, spread.min, spread.max].map(
          (value) => `${Number(value.toPrecision(6))}`,
        ),
        String(spread.n),
        showTarget(comparison.target),
        isMet === null ? '' : yesNo(isMet),
      ]),
    ),
  )
}

function nameOf({ section }: SectionResult, { id }: PeerRatio): string {
  return engineName(section.cases.find((one) => one.id === id)!.use)
}

export function appendHistory(path: string, results: Results): void {
  mkdirSync(dirname(path), { recursive: true })
  const rows = historyRows(results)
  const lines = existsSync(path) ? rows : [csvLine(historyHeads), ...rows]
  appendFileSync(path, lines.map((one) => `${one}\n`).join(''))
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no'
}

/** RFC 4180: a field with a comma or a quotation mark stands in quotation marks. */
function csvLine(fields: readonly string[]): string {
  return fields
    .map((field) => (/[",\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field))
    .join(',')
}
