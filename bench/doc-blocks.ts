// The benchmark's blocks in the documents, between their markers: README.md shows a few
// comparisons, docs/PERFORMANCE.md all of them. `npm run bench -- --write-docs` writes both from
// one committed run.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { table, wrap } from './markdown.ts'
import { readResults } from './output.ts'
import {
  aboutLines,
  explanation,
  numberHeads,
  outcomeCells,
  outcomeHeads,
  targetCells,
  unmeasuredCells,
} from './report.ts'
import { outcomesOf, type Results, unmeasured } from './results.ts'

/** The run that the documents show, without the file's ending. */
export const documentedRun = 'bench/results/amd-epyc-avx2-2core/latest'

interface ReadmeRow {
  /** A comparison of the plan. */
  readonly what: string
  /** How the README names it. */
  readonly title: string
}

export const readmeRows: readonly ReadmeRow[] = [
  {
    what: 'decode, 1 stream: int4-128 over the best peer',
    title: 'decode, 1 stream: int4-128 (4.25 bits) over the best peer',
  },
  {
    what: 'decode, 8 streams: int4-128 over the best peer',
    title: 'decode, 8 streams: int4-128 over the best peer',
  },
  {
    what: 'prefill: int4-128 over the best peer',
    title: 'prefill: int4-128 over the best peer',
  },
  {
    what: '8 different adapters over 8 rows of base',
    title: 'decode, 8 streams: 8 different adapters over none',
  },
  {
    what: '1 streams: HTTP over the bare loop',
    title: 'decode, 1 stream: HTTP server over a bare loop',
  },
  {
    what: '8 streams: HTTP over the bare loop',
    title: 'decode, 8 streams: HTTP server over a bare loop',
  },
]

/** Comparisons of the run's first shape. A failed target stays, in bold. */
export function renderReadmeBlock(results: Results): string {
  const shape = results.sections[0]!.section.shape
  const outcomes = results.sections
    .filter(({ section }) => section.shape === shape)
    .flatMap(outcomesOf)
  const rows = readmeRows.map(({ what, title }) => {
    const outcome = outcomes.find(({ comparison }) => comparison.what === what)
    return [title, ...(outcome === undefined ? notRun : targetCells(outcome))]
  })
  return [
    ...aboutLines(results),
    '',
    ...table([`ratio of speeds, ${shape} shape`, ...numberHeads], rows),
    '',
    ...wrap(
      `${showMet(results)} [Every comparison](docs/PERFORMANCE.md), ` +
        `[every number](${documentedRun}.md).`,
    ),
  ].join('\n')
}

const notRun = ['', '', '', '', '**not run**']

export function renderPerformanceBlock(results: Results): string {
  const rows = results.sections.flatMap((result) =>
    [
      ...outcomesOf(result).map((outcome) => outcomeCells(outcome, result)),
      ...unmeasured(result).map(unmeasuredCells),
    ].map((cells) => [result.section.shape, ...cells]),
  )
  return [
    ...aboutLines(results),
    '',
    ...wrap(explanation),
    '',
    ...table(['shape', ...outcomeHeads], rows),
    '',
    ...wrap(`${showMet(results)} [Every number](../${documentedRun}.md).`),
  ].join('\n')
}

function showMet({ sections }: Results): string {
  const targets = sections.flatMap(outcomesOf).filter(({ isMet }) => isMet !== null)
  const met = targets.filter(({ isMet }) => isMet)
  return `Of this run's ${targets.length} targets, ${met.length} are met.`
}

/** The documents with a block, and what stands in it. */
export const blocks: ReadonlyArray<{
  readonly document: string
  readonly render: (results: Results) => string
}> = [
  { document: 'README.md', render: renderReadmeBlock },
  { document: 'docs/PERFORMANCE.md', render: renderPerformanceBlock },
]

const begin = '<!-- bench:begin -->'
const end = '<!-- bench:end -->'

/**
 * The document with the block between its markers; the same document where it stands there already.
 */
export function replaceBlock(text: string, block: string): string {
  const from = text.indexOf(begin)
  const to = text.indexOf(end, from)
  if (from < 0 || to < 0) throw new Error(`a document needs ${begin} and, below it, ${end}`)
  return `${text.slice(0, from)}${begin}\n${block}\n${text.slice(to)}`
}

/** Returns the documents that it wrote. */
export function writeDocs(root: string): readonly string[] {
  const results = readResults(join(root, `${documentedRun}.json`))
  for (const { document, render } of blocks) {
    const path = join(root, document)
    writeFileSync(path, replaceBlock(readFileSync(path, 'utf8'), render(results)))
  }
  return blocks.map(({ document }) => document)
}
