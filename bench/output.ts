// Where a run's results go: results/<machine>/latest.{json,md}, and every comparison in
// history.csv.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { appendHistory } from './history.ts'
import { slugOf } from './machine.ts'
import { type BenchOptions, parseOptions } from './options.ts'
import { renderReport } from './report.ts'
import type { Results, SectionResult } from './results.ts'

export interface Output {
  /** Keeps what is measured so far; the last of the results' sections is new. */
  keep(results: Results): void
  /** The run is over: its files take their name. Returns their path without the ending. */
  finish(results: Results): string
}

/** Until it is over a run writes beside the results that it will replace. */
export function createOutput(folder: string, options: BenchOptions): Output {
  function placeOf(results: Results) {
    return join(folder, slugOf(results.machine))
  }

  return {
    keep(results) {
      const place = placeOf(results)
      mkdirSync(place, { recursive: true })
      writeResults(join(place, 'unfinished'), results)
      appendHistory(join(folder, 'history.csv'), {
        ...results,
        sections: results.sections.slice(-1),
      })
    },
    finish(results) {
      const place = placeOf(results)
      const base = join(place, resultName(options, results.sections))
      for (const ending of ['json', 'md']) {
        renameSync(join(place, `unfinished.${ending}`), `${base}.${ending}`)
      }
      return base
    },
  }
}

/**
 * "latest" for a whole run: --quick, or no flags, with every engine that the processor can run. Any other is named after what
 * was asked for, so that it never takes a whole run's place: latest-quick-decode.
 */
export function resultName(options: BenchOptions, sections: readonly SectionResult[]): string {
  const { isQuick, shapes, sections: names, ...rest } = options
  const whole = parseOptions(isQuick ? ['--quick'] : [])
  const { isQuick: _, shapes: usualShapes, sections: usualNames, ...usualRest } = whole
  const parts: string[] = []
  if (!isDeepStrictEqual(shapes, usualShapes)) parts.push(...shapes)
  if (!isDeepStrictEqual(names, usualNames)) parts.push(...names)
  if (!isDeepStrictEqual(rest, usualRest)) parts.push('changed')
  const failed = sections.flatMap(({ missing }) => missing.filter((one) => !one.isUnsupported))
  if (failed.length > 0) parts.push('incomplete')
  if (parts.length === 0) return 'latest'
  return ['latest', ...(isQuick ? ['quick'] : []), ...parts].join('-')
}

export function readResults(path: string): Results {
  return JSON.parse(readFileSync(path, 'utf8')) as Results
}

function writeResults(base: string, results: Results): void {
  writeFileSync(`${base}.json`, `${JSON.stringify(results, null, 1)}\n`)
  writeFileSync(`${base}.md`, renderReport(results))
}
