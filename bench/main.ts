// The benchmark: plans, runs section by section, and writes JSON, Markdown and SVG after each, so that
// what was measured is kept when the rest is not. scripts/bench.mjs installs, builds and calls it.

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { createBudget } from './budget.ts'
import { locateFiles } from './files.ts'
import { launchPeer } from './launch.ts'
import { type BenchOptions, parseOptions } from './options.ts'
import { planSections } from './plan.ts'
import { renderPlot } from './plot.ts'
import { renderReport } from './report.ts'
import type { Machine, Results, SectionResult } from './results.ts'
import { runSection } from './run.ts'

export { usage } from './options.ts'

export interface BenchInput {
  readonly root: string
  readonly args: readonly string[]
  /** Folder of the results. */
  readonly output: string
}

/** Throws on flags that make no sense, before anything is installed or built. */
export function checkArguments(args: readonly string[]): BenchOptions {
  return parseOptions(args)
}

export async function runBenchmark({ root, args, output }: BenchInput): Promise<string> {
  const options = parseOptions(args)
  const files = locateFiles(root)
  const sections = planSections(options)
  const date = new Date().toISOString()
  const name = `${date.slice(0, 16).replace(':', '')}${options.isQuick ? '-quick' : ''}`
  mkdirSync(output, { recursive: true })
  const base = join(output, name)
  const done: SectionResult[] = []
  const progress = createProgress(sections.map(({ cases }) => cases.length * (options.rounds + 1)))
  const start = performance.now()
  const budget = createBudget(options.minutes, sections.length, () => performance.now() - start)
  const about = {
    date,
    commit: readCommit(root),
    command: ['npm run bench --', ...args].join(' '),
    machine: describeMachine(),
    rounds: options.rounds,
    threads: options.threads,
    promptTokens: options.promptTokens,
    decodeTokens: options.decodeTokens,
  }
  for (const [i, section] of sections.entries()) {
    const title = `[${i + 1}/${sections.length}] ${section.title} · ${section.shape}`
    progress.begin(i)
    done.push(
      await runSection(section, {
        rounds: options.rounds,
        mayGoOn: budget.begin(i),
        launch: (use) => launchPeer(use, options, files),
        onStep: (what) => progress.step(`${title} · ${what}`, !what.startsWith('loading')),
      }),
    )
    const results: Results = { ...about, sections: done }
    writeFileSync(`${base}.json`, `${JSON.stringify(results, null, 1)}\n`)
    writeFileSync(`${base}.md`, renderReport(results))
    writeFileSync(`${base}.svg`, renderPlot(results))
  }
  return base
}

function createProgress(stepsOfSections: readonly number[]) {
  const start = performance.now()
  const total = stepsOfSections.reduce((sum, steps) => sum + steps, 0)
  let numDone = 0
  return {
    /** Sections before this one are over, whether or not all their steps were made. */
    begin(section: number) {
      numDone = stepsOfSections.slice(0, section).reduce((sum, steps) => sum + steps, 0)
    },
    step(what: string, counts: boolean) {
      const seconds = (performance.now() - start) / 1000
      const left = numDone < 5 ? '?' : minutes((seconds / numDone) * (total - numDone))
      console.error(`${what} · ${minutes(seconds)} gone, about ${left} left`)
      if (counts) numDone++
    },
  }
}

const minutes = (seconds: number): string =>
  seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`

function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform} ${process.arch}`,
    node: process.versions.node,
  }
}

function readCommit(root: string): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim()
  try {
    const changed = git('status', '--porcelain', '--', 'server', 'bench') !== ''
    return `${git('rev-parse', '--short', 'HEAD')}${changed ? ' with changes' : ''}`
  } catch {
    return 'unknown'
  }
}
