// Results as one SVG: for each shape the decode and prefill speeds as bars, engines by colour, with the
// range of the rounds drawn on each bar.

import { engineName, roundsOf, showNumber } from './report.ts'
import type { Results } from './results.ts'
import { type Spread, spread } from './statistics.ts'

interface Bar {
  readonly engine: string
  readonly spread: Spread
}

interface Group {
  readonly title: string
  readonly bars: readonly Bar[]
}

/** Shades of one colour for each engine, by weights. */
const palette: ReadonlyArray<readonly [prefix: string, shades: readonly string[]]> = [
  ['dutyfree', ['#0b6e4f', '#4caf7d', '#a3d9b8', '#d2eedd']],
  ['llama.cpp', ['#c0562f', '#e3a57f']],
  ['onnxruntime', ['#1f4e8c']],
  ['transformers', ['#8a6bb0', '#c3b1dc']],
]
const width = 960
const labelWidth = 250
const barHeight = 16
const groupGap = 34
const margin = 24

export function renderPlot(results: Results): string {
  const groups = groupsOf(results)
  const engines = [...new Set(groups.flatMap(({ bars }) => bars.map(({ engine }) => engine)))]
  const parts: string[] = []
  let y = margin + 44
  for (const { title, bars } of groups) {
    const most = Math.max(...bars.map((bar) => bar.spread.max))
    const scale = (width - labelWidth - 130) / most
    parts.push(text(margin, y, title, 'font-weight="600"'))
    y += 10
    for (const bar of bars) {
      const { median, min, max } = bar.spread
      const colour = colourOf(bar.engine, engines)
      const middle = y + barHeight / 2
      const [from, to] = [labelWidth + min * scale, labelWidth + max * scale]
      parts.push(
        text(labelWidth - 8, middle + 4, bar.engine, 'text-anchor="end"'),
        `<rect x="${labelWidth}" y="${y + 1}" width="${round(median * scale)}" height="${barHeight - 3}" fill="${colour}"/>`,
        `<path d="M${round(from)} ${middle}H${round(to)}" stroke="#222" stroke-width="1.5"/>`,
        text(Math.max(to, labelWidth + median * scale) + 8, middle + 4, showNumber(median)),
      )
      y += barHeight
    }
    y += groupGap
  }
  const { machine, threads } = results
  const about = `${machine.cpu}, ${threads} threads, ${roundsOf(results)}, commit ${results.commit}, ${results.date.slice(0, 10)}`
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" font-family="sans-serif" font-size="12" fill="#222">`,
    `<rect width="${width}" height="${y}" fill="#fff"/>`,
    text(
      margin,
      margin,
      'Tokens per second, all streams together (line: min–max)',
      'font-size="15"',
    ),
    text(margin, margin + 18, about, 'fill="#666"'),
    ...parts,
    '</svg>',
    '',
  ].join('\n')
}

function colourOf(engine: string, engines: readonly string[]): string {
  const [prefix, shades] = palette.find(([start]) => engine.startsWith(start))!
  const place = engines.filter((other) => other.startsWith(prefix)).indexOf(engine)
  return shades[place % shades.length]!
}

/** Speeds by shape and work, fastest first; only what several engines did is worth a picture. */
function groupsOf({ sections }: Results): readonly Group[] {
  const groups = new Map<string, Map<string, Spread>>()
  for (const { section, cases } of sections) {
    if (section.name !== 'decode' && section.name !== 'prefill') continue
    for (const { id, values } of cases) {
      const { use, work, unit } = section.cases.find((one) => one.id === id)!
      if (unit !== 'tokens/s') continue
      const title = `${section.shape}: ${work}`
      const bars = groups.get(title) ?? new Map<string, Spread>()
      // What several sections measured is drawn as it was first.
      if (!bars.has(engineName(use))) bars.set(engineName(use), spread(values))
      groups.set(title, bars)
    }
  }
  return [...groups].map(([title, bars]) => ({
    title,
    bars: [...bars]
      .map(([engine, found]) => ({ engine, spread: found }))
      .sort((a, b) => b.spread.median - a.spread.median),
  }))
}

const round = (value: number): number => Math.round(value * 10) / 10

function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escaped}</text>`
}
