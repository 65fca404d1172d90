// The benchmark's flags. Parsing is pure: arguments come in, options or an error with the rule come
// out.

import { parseArgs } from 'node:util'
import { type ShapeName, shapes } from './models/shapes.ts'

export const sectionNames = [
  'decode',
  'prefill',
  'adapters',
  'resident',
  'sites',
  'http',
  'switch',
  'vllm',
] as const
export type SectionName = (typeof sectionNames)[number]

const peerNames = [
  'dutyfree-c-api',
  'dutyfree-http',
  'onnxruntime-node',
  'llama.cpp',
  'openvino',
  'transformers',
  'vllm',
] as const
export type ComparedPeer = (typeof peerNames)[number]

/** Those whose numbers a target is about. */
const quickPeers: readonly ComparedPeer[] = [
  'dutyfree-c-api',
  'dutyfree-http',
  'llama.cpp',
  'openvino',
]

const wholeShapes: readonly ShapeName[] = [
  'qwen2.5-0.5b',
  'r1-qwen-1.5b',
  'smollm2-135m',
  'r1-qwen-7b',
]

export interface BenchOptions {
  readonly sections: readonly SectionName[]
  readonly shapes: readonly ShapeName[]
  readonly peers: readonly ComparedPeer[]
  readonly rounds: number
  /** Rounds end early to keep within it; null: they do not. */
  readonly minutes: number | null
  readonly threads: number
  readonly streams: readonly number[]
  readonly promptTokens: number
  /** Of the section with a long prompt. */
  readonly longPromptTokens: number
  readonly decodeTokens: number
  readonly residents: readonly number[]
  readonly isQuick: boolean
}

/** Files that are made once, some two minutes' worth, count too. */
const quickMinutes = 9

export const usage = `npm run bench -- [flags]
  --quick                the 0.5B shape, 3 rounds, 32 tokens, 1, 8 and 32 streams, ${quickMinutes} minutes,
                         no long prompt, and only ${quickPeers.join(', ')}
  --only <section,…>     ${sectionNames.join(', ')} (all)
  --shape <name,…>       ${Object.keys(shapes).join(', ')} (all)
  --peers <name,…>       ${peerNames.join(', ')} (all; see --quick)
  --rounds <n>           interleaved rounds (5)
  --minutes <n>          fewer rounds, at least one, where a run would take longer (unbounded)
  --threads <n>          threads of every engine (2)
  --streams <n,…>        streams that decode together (1,2,4,8,32)
  --tokens <n>           tokens that each stream decodes (128)
  --output <folder>      where the results go (bench/results)
  --no-build             use dist/ as it is
  --write-docs           write the tables of README.md and docs/PERFORMANCE.md from the committed
                         results; measures nothing
`

const flags = {
  quick: { type: 'boolean', default: false },
  only: { type: 'string' },
  shape: { type: 'string' },
  peers: { type: 'string' },
  rounds: { type: 'string' },
  minutes: { type: 'string' },
  threads: { type: 'string', default: '2' },
  streams: { type: 'string' },
  tokens: { type: 'string' },
} as const

const maxRows = 32

export function parseOptions(args: readonly string[]): BenchOptions {
  const { values } = parseArgs({ args: [...args], options: flags })
  const isQuick = values.quick
  function numbers(name: string, text: string, max: number) {
    return text.split(',').map((part) => {
      const value = Number(part)
      if (Number.isInteger(value) && value >= 1 && value <= max) return value
      throw new Error(`--${name} takes whole numbers from 1 to ${max}; got ${part}`)
    })
  }

  function number(name: string, text: string, max: number) {
    const all = numbers(name, text, max)
    if (all.length > 1) throw new Error(`--${name} takes one number; got ${text}`)
    return all[0]!
  }
  const minutes = values.minutes ?? (isQuick ? `${quickMinutes}` : undefined)
  const defaultShapes = isQuick ? 'qwen2.5-0.5b' : wholeShapes.join(',')
  return {
    sections: oneOf('only', values.only, sectionNames),
    shapes: oneOf('shape', values.shape ?? defaultShapes, Object.keys(shapes) as ShapeName[]),
    peers: oneOf('peers', values.peers, peerNames, isQuick ? quickPeers : peerNames),
    rounds: number('rounds', values.rounds ?? (isQuick ? '3' : '5'), 100),
    minutes: minutes === undefined ? null : number('minutes', minutes, 10_000),
    threads: number('threads', values.threads, 256),
    streams: numbers('streams', values.streams ?? (isQuick ? '1,8,32' : '1,2,4,8,32'), maxRows),
    promptTokens: 512,
    longPromptTokens: 2048,
    decodeTokens: number('tokens', values.tokens ?? (isQuick ? '32' : '128'), 256),
    residents: isQuick ? [1, 1000] : [1, 10, 100, 1000],
    isQuick,
  }
}

function oneOf<T extends string>(
  name: string,
  text: string | undefined,
  known: readonly T[],
  usual = known,
): T[] {
  if (text === undefined) return [...usual]
  return text.split(',').map((part) => {
    if ((known as readonly string[]).includes(part)) return part as T
    throw new Error(`--${name} knows ${known.join(', ')}; got ${part}`)
  })
}
