// Results as Markdown: what was compared with what and whether the targets are met, then every
// number.

import { showCommit } from './commit.ts'
import { showMachine } from './machine.ts'
import { table, wrap } from './markdown.ts'
import { weightTypes } from './models/weight-types.ts'
import {
  engineName,
  type Outcome,
  outcomesOf,
  type Results,
  type SectionResult,
  type Unmeasured,
  unmeasured,
} from './results.ts'
import type { PeerUse, Target } from './sections/section.ts'
import { spread } from './statistics.ts'

export function renderReport(results: Results): string {
  const { sections } = results
  return [
    '# Benchmark',
    '',
    ...aboutLines(results),
    '',
    ...wrap(explanation),
    '',
    ...renderTargets(sections),
    ...sections.flatMap((result) => renderSection(result, results)),
    ...renderVersions(sections),
  ].join('\n')
}

export const explanation =
  "Ratios are medians of the rounds' own ratios (both sides measured seconds apart); above 1 the " +
  'first is faster, or, for times, longer. The best peer, in bold, is the fastest of those named; ' +
  'the number behind another is the ratio to that one. Bits are bits per weight, scales included. ' +
  'KL is the mean in nats that rounding to such weights costs tiny-reasoner. Weights here are ' +
  'random, tokens are made up; nothing is sampled but over HTTP.'

/** Command, commit, machine and settings, a line each. */
export function aboutLines(results: Results): string[] {
  const { command, date, machine, threads, promptTokens, decodeTokens } = results
  const lines = [
    `\`${command}\` · ${showCommit(results)} · ${date.slice(0, 10)}`,
    showMachine(machine),
    `${threads} threads for every engine · ${roundsOf(results)}, interleaved · ` +
      `prompt ${promptTokens} tokens, decode ${decodeTokens} tokens a stream after it`,
  ]
  return lines.flatMap((text, i) => {
    const wrapped = wrap(text)
    // Two spaces at the end keep the lines apart.
    return i === lines.length - 1 ? wrapped : [...wrapped.slice(0, -1), `${wrapped.at(-1)}  `]
  })
}

/** Those that were run: a run that must end in time leaves some out. */
function roundsOf({ rounds, sections }: Pick<Results, 'rounds' | 'sections'>): string {
  const found = sections.flatMap(({ cases }) => cases.map(({ values }) => values.length))
  const fewest = Math.min(rounds, ...found)
  return fewest === rounds ? `${rounds} rounds` : `${fewest} to ${rounds} rounds`
}

function renderTargets(sections: readonly SectionResult[]): string[] {
  const rows = sections.flatMap((result) =>
    outcomesOf(result)
      .filter(({ isMet }) => isMet !== null)
      .map((outcome) => [result.section.shape, ...outcomeCells(outcome, result)])
      .concat(
        unmeasured(result)
          .filter(({ comparison }) => comparison.target !== null)
          .map((one) => [result.section.shape, ...unmeasuredCells(one)]),
      ),
  )
  if (rows.length === 0) return []
  return ['## Targets', '', ...table(['shape', ...outcomeHeads], rows), '']
}

export const numberHeads = ['median', 'min–max', 'rounds', 'target', '']
export const outcomeHeads = ['comparison', 'peers', 'bits', 'KL', ...numberHeads]

export function outcomeCells(outcome: Outcome, result: SectionResult): string[] {
  const { comparison } = outcome
  const uses = comparedUses(outcome, result)
  return [
    comparison.what,
    showPeers(outcome, result),
    uses.map(bits).join(' : '),
    uses.map(showKl).join(' : '),
    ...targetCells(outcome),
  ]
}

/** A row without numbers, and why. */
export function unmeasuredCells({ comparison, reason }: Unmeasured): string[] {
  const target = showTarget(comparison.target)
  return [comparison.what, '', '', '', '', '', '', target, `**not run**: ${reason}`]
}

/** The best peer in bold, and how ours compares with each that was measured. */
function showPeers({ peers }: Outcome, { section }: SectionResult): string {
  return peers
    .map(({ id, spread: { median } }, i) => {
      const name = engineName(section.cases.find((one) => one.id === id)!.use)
      return i === 0 ? `**${name}**` : `${name} ${showNumber(median)}`
    })
    .join('; ')
}

/** The numbers of a comparison, from its median on. */
export function targetCells({ comparison, spread, isMet }: Outcome): string[] {
  return [
    showNumber(spread.median),
    `${showNumber(spread.min)}–${showNumber(spread.max)}`,
    String(spread.n),
    showTarget(comparison.target),
    isMet === null ? '' : isMet ? 'met' : '**not met**',
  ]
}

/** What is compared with what: one engine, or ours and a peer. */
function comparedUses(
  { comparison, peers }: Outcome,
  { section }: SectionResult,
): ReadonlyArray<PeerUse | undefined> {
  function useOf(id: string) {
    return section.cases.find((one) => one.id === id)?.use
  }

  switch (comparison.kind) {
    case 'ratio':
      return [useOf(comparison.top), useOf(comparison.bottom)]
    case 'best':
      return [useOf(comparison.top), useOf(peers[0]!.id)]
    case 'share':
    case 'value':
      return [useOf(comparison.of)]
  }
}

function bits(use: PeerUse | undefined): string {
  return use?.weights ? String(weightTypes[use.weights].bits) : ''
}

function showKl(use: PeerUse | undefined): string {
  if (!use?.weights) return ''
  const { kl } = weightTypes[use.weights]
  return kl === null ? '–' : kl.toExponential(1)
}

export function showTarget(target: Target | null): string {
  switch (target?.kind) {
    case undefined:
      return ''
    case 'at-least':
      return `≥ ${target.value}`
    case 'at-most':
      return `≤ ${target.value}`
    case 'about':
      return `${target.value.toFixed(1)} ± noise`
  }
}

function renderSection(result: SectionResult, { threads, machine }: Results): string[] {
  const { section, cases, missing, load } = result
  // The engine that computes loads one core a thread, the client and the benchmark a little.
  const isBusy = Math.max(...load) > Math.max(threads, machine.cores) + 1
  const described = new Map(section.cases.map((one) => [one.id, one]))
  const rows = cases.map(({ id, values }) => {
    const { use, work, unit } = described.get(id)!
    const { median, min, max, n } = spread(values)
    return [
      work,
      engineName(use),
      bits(use),
      `${showNumber(median)} ${unit}`,
      `${showNumber(min)}–${showNumber(max)}`,
      String(n),
    ]
  })
  const compared = [
    ...outcomesOf(result).map((one) => outcomeCells(one, result)),
    ...unmeasured(result).map(unmeasuredCells),
  ]
  return [
    `## ${section.title} · ${section.shape}`,
    '',
    `Load average ${load[0].toFixed(2)} before, ${load[1].toFixed(2)} after.`,
    ...(isBusy ? ['**Other work ran on this machine: do not trust these numbers.**'] : []),
    ...missing.flatMap(({ peer, reason }) => ['', ...wrap(`**${peer} was not run:** ${reason}`)]),
    '',
    ...table(['work', 'engine', 'bits', 'median', 'min–max', 'rounds'], rows),
    '',
    ...(compared.length === 0 ? [] : [...table(outcomeHeads, compared), '']),
  ]
}

function renderVersions(sections: readonly SectionResult[]): string[] {
  const peers = Object.assign({}, ...sections.map((result) => result.peers)) as Record<
    string,
    object
  >
  const lines = Object.entries(peers).flatMap(([name, info]) => {
    const facts = Object.entries(info).map(([key, value]) => `${key} ${String(value).trim()}`)
    return wrap(`- ${name}: ${facts.join('; ')}`, '  ')
  })
  return lines.length === 0 ? [] : ['## Engines', '', ...lines, '']
}

/** The line of an output that names the error, or its first; the rest has paths of this machine. */
export function gist(reason: string): string {
  const lines = reason.trim().split('\n')
  const named = lines.find((line) => /^\w*(Error|Exception)\b/.test(line.trim()))
  return (named ?? lines[0] ?? '').slice(0, 300)
}

/** Three digits that matter. */
function showNumber(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (value >= 100) return value.toFixed(0)
  return value.toFixed(value >= 10 ? 1 : 2)
}
