// The benchmark: plans, runs section by section, and writes JSON and Markdown after each, so that
// what was measured is kept when the rest is not. scripts/bench.mjs installs, builds and calls it.

import { performance } from 'node:perf_hooks'
import { createBudget } from './budget.ts'
import { readCommit } from './commit.ts'
import { locateFiles } from './files.ts'
import { launchPeer } from './launch.ts'
import { describeMachine, lacksVllm } from './machine.ts'
import { type BenchOptions, parseOptions } from './options.ts'
import { createOutput } from './output.ts'
import { planSections } from './plan.ts'
import type { Results, SectionResult } from './results.ts'
import { runSection } from './run.ts'

export { writeDocs } from './doc-blocks.ts'
export { usage } from './options.ts'

export interface BenchInput {
  readonly root: string
  readonly args: readonly string[]
  /** Folder of the results. */
  readonly output: string
}

/** Throws on flags that make no sense, before anything is installed or built. */
export function checkArguments(args: readonly string[]): BenchOptions {
  const options = parseOptions(args)
  if (planSections(options).length > 0) return options
  throw new Error('these flags leave nothing to measure: no such section has all its --peers')
}

/** Whether vLLM is asked for, by a section that this processor can measure. */
export function usesVllm(options: BenchOptions): boolean {
  if (lacksVllm() !== null) return false
  return planSections(options).some(({ cases }) => cases.some(({ use }) => use.peer === 'vllm'))
}

/** Returns the path of the results, without the ending. */
export async function runBenchmark({ root, args, output: folder }: BenchInput): Promise<string> {
  const options = checkArguments(args)
  const files = locateFiles(root)
  const sections = planSections(options)
  const output = createOutput(folder, options)
  const done: SectionResult[] = []
  const progress = createProgress(sections.map(({ cases }) => cases.length * (options.rounds + 1)))
  const start = performance.now()
  const budget = createBudget(options.minutes, sections.length, () => performance.now() - start)
  const results: Results = {
    date: new Date().toISOString(),
    ...readCommit(root),
    command: ['npm run bench --', ...args].join(' '),
    machine: describeMachine(),
    rounds: options.rounds,
    threads: options.threads,
    promptTokens: options.promptTokens,
    decodeTokens: options.decodeTokens,
    sections: done,
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
    output.keep(results)
  }
  return output.finish(results)
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

function minutes(seconds: number): string {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`
}
