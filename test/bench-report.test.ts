// What the benchmark makes of its numbers. Nothing is timed here: the numbers are given.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBudget } from '../bench/budget.ts'
import { lacksVllm, vllmWeights } from '../bench/machine.ts'
import { shapes } from '../bench/models/shapes.ts'
import { bytesPerStep, weightsPerStep } from '../bench/models/weight-types.ts'
import { parseOptions } from '../bench/options.ts'
import { planSections } from '../bench/plan.ts'
import { gist, renderReport } from '../bench/report.ts'
import {
  engineName,
  inUnit,
  meets,
  outcomesOf,
  type Results,
  type SectionResult,
} from '../bench/results.ts'
import { type Case, caseIds, type Section } from '../bench/sections/section.ts'
import { pairedRatios, percentile, spread } from '../bench/statistics.ts'

test('a spread is the median of an odd number, and the mean of the middle two of an even one', () => {
  assert.deepEqual(spread([3, 1, 2]), { median: 2, min: 1, max: 3, n: 3 })
  assert.equal(spread([4, 1, 2, 3]).median, 2.5)
  assert.throws(() => spread([]), /at least one/)
})

test('a ratio is taken round by round, so that a slow round slows both of its sides', () => {
  // Medians alone would say 100 / 40.
  assert.equal(pairedRatios([100, 50, 200], [50, 25, 40]).median, 2)
  assert.throws(() => pairedRatios([1], [1, 2]), /1 and 2/)
})

test('a percentile is a value that occurred', () => {
  const values = Array.from({ length: 100 }, (_, i) => i + 1)
  assert.equal(percentile(values, 0.99), 99)
  assert.equal(percentile([5], 0.5), 5)
})

test('tokens are counted per second of all streams together', () => {
  const one = { unit: 'tokens/s' } as Case
  assert.equal(inUnit(one, { ms: 500, tokens: 128 }), 256)
  assert.equal(inUnit({ unit: 'ms' } as Case, { value: 12 }), 12)
})

test('a step of the 0.5B shape reads 494 million weights, tied lm_head included', () => {
  const shape = shapes['qwen2.5-0.5b']
  assert.equal(Math.round(weightsPerStep(shape) / 1e6), 494)
  assert.equal(bytesPerStep(shape, 'int4-128'), (weightsPerStep(shape) * 4.25) / 8)
})

test('targets are met by the median; "about" also by a range that holds the value', () => {
  const of = (median: number, min = median, max = median) => ({ median, min, max, n: 3 })
  assert.equal(meets(of(1.5), { kind: 'at-least', value: 1.5 }), true)
  assert.equal(meets(of(1.49), { kind: 'at-least', value: 1.5 }), false)
  assert.equal(meets(of(31), { kind: 'at-most', value: 30 }), false)
  assert.equal(meets(of(1.04), { kind: 'about', value: 1 }), true)
  assert.equal(meets(of(1.2, 0.9, 1.4), { kind: 'about', value: 1 }), true)
  assert.equal(meets(of(1.2, 1.1, 1.4), { kind: 'about', value: 1 }), false)
})

test('every comparison of every plan names cases of its own section, and ids are unique', () => {
  for (const args of [[], ['--quick'], ['--peers', 'dutyfree-c-api,llama.cpp']]) {
    for (const { cases, comparisons, title } of planSections(parseOptions(args))) {
      const ids = cases.map(({ id }) => id)
      assert.equal(new Set(ids).size, ids.length, title)
      for (const comparison of comparisons) {
        for (const id of caseIds(comparison)) assert.ok(ids.includes(id), `${title}: ${id}`)
      }
    }
  }
})

test('--quick leaves no target of its shape unmeasured but those of a long prompt', () => {
  const shape = ['--shape', 'qwen2.5-0.5b', '--streams', '1,8,32']
  const targets = (args: readonly string[]) =>
    planSections(parseOptions([...args, ...shape]), 'avx2').flatMap(({ comparisons }) =>
      comparisons.flatMap(({ what, target }) => (target === null ? [] : [what])),
    )
  assert.deepEqual(
    targets(['--quick']),
    targets([]).filter((what) => !what.startsWith('prefill, 2048 tokens')),
  )
  assert.equal(targets([]).filter((what) => what.startsWith('prefill, 2048 tokens')).length, 2)
  const peers = planSections(parseOptions(['--quick'])).flatMap(({ cases }) =>
    cases.map(({ use }) => use.peer),
  )
  assert.equal(peers.includes('transformers') || peers.includes('onnxruntime-node'), false)
  const asked = parseOptions(['--quick', '--peers', 'dutyfree-c-api,transformers'])
  assert.deepEqual(asked.peers, ['dutyfree-c-api', 'transformers'])
})

test('filters choose sections, shapes and peers, and a name that is unknown is refused', () => {
  const args = ['--only', 'decode', '--shape', 'qwen2.5-0.5b', '--peers', 'dutyfree-c-api']
  const sections = planSections(parseOptions(args))
  assert.ok(sections.length > 0)
  for (const { name, shape, cases } of sections) {
    assert.deepEqual([name, shape], ['decode', 'qwen2.5-0.5b'])
    assert.ok(cases.every(({ use }) => ['dutyfree-c-api', 'bandwidth'].includes(use.peer)))
  }
  assert.throws(() => parseOptions(['--only', 'train']), /--only knows decode/)
  assert.throws(() => parseOptions(['--rounds', '0']), /whole numbers from 1/)
  assert.throws(() => parseOptions(['--frobnicate']), /frobnicate/)
})

test('on a slow machine rounds are left out, the first of a section never', () => {
  let elapsed = 60_000
  const budget = createBudget(9, 4, () => elapsed)
  const first = budget.begin(0) // two minutes of the eight that are left
  assert.equal(first(120_000), true)
  elapsed += 90_000
  assert.equal(first(30_000), true)
  assert.equal(first(30_001), false)
  const last = budget.begin(3) // what the others left
  assert.equal(last(390_000), true)
  elapsed = 600_000
  assert.equal(budget.begin(3)(1), false)
  assert.equal(createBudget(null, 4, () => elapsed).begin(0)(1e9), true)
})

test('the report says how many rounds were run', () => {
  const section = sectionResult([
    [30, 31],
    [90, 91],
  ])
  assert.match(renderReport(results(section)), /· 2 to 3 rounds, interleaved/)
  assert.equal(parseOptions(['--quick']).minutes, 9)
  assert.equal(parseOptions([]).minutes, null)
})

const sectionResult = (values: readonly number[][]): SectionResult => {
  const options = parseOptions(['--only', 'decode', '--streams', '1', '--shape', 'qwen2.5-0.5b'])
  const planned = planSections(options, 'avx2')[0] as Section
  const cases = planned.cases.flatMap(({ id }, i) => {
    const own = values[i]
    return own === undefined ? [] : [{ id, values: own, measurements: [] }]
  })
  return { section: planned, load: [0.1, 0.2], cases, missing: [], peers: {} }
}

const results = (section: SectionResult): Results => ({
  date: '2026-01-01T00:00:00.000Z',
  commit: 'abcdef0',
  dirty: false,
  command: 'npm run bench --',
  machine: {
    cpu: 'A & B',
    instructionSet: 'avx2',
    cores: 2,
    memoryGiB: 24,
    platform: 'linux x64',
    node: '20.0.0',
  },
  rounds: 3,
  threads: 2,
  promptTokens: 512,
  decodeTokens: 128,
  sections: [section],
})

test('a report says beside each ratio its bits, its target and whether that is met', () => {
  // bandwidth, int4-128, int4-32, Q4_0
  const section = sectionResult([[30], [90], [60], [50]])
  const report = renderReport(results(section))
  assert.match(
    report,
    /int4-128 over the best peer \| \*\*llama\.cpp Q4_0\*\* \| 4\.25 : 4\.5 \| \S+ : \S+ \| 1\.80 \|.*≥ 1\.8 \| met/,
  )
  assert.match(
    report,
    /int4-32 over llama\.cpp Q4_0 \| {2}\| 5 : 4\.5 \| \S+ : \S+ \| 1\.20 \|.*\*\*not met\*\*/,
  )
  assert.match(report, /commit abcdef0/)
  assert.match(report, /Load average 0\.10 before/)
})

test('numbers that were taken beside other work are marked as such', () => {
  const section = sectionResult([[30], [90], [60], [50]])
  assert.doesNotMatch(renderReport(results(section)), /Other work ran/)
  assert.match(renderReport(results({ ...section, load: [0.1, 8] })), /Other work ran/)
})

test('a peer without numbers is named with its reason, and takes its comparisons along', () => {
  const full = sectionResult([[30], [90], [60]])
  const missing = [{ peer: 'llama.cpp Q4_0', reason: gist('no library\nat line 1') }]
  const section = { ...full, missing }
  assert.equal(gist('at line 1\nTypeError: no'), 'TypeError: no')
  const report = renderReport(results(section))
  assert.doesNotMatch(report, /at line 1/)
  assert.match(report, /\*\*llama\.cpp Q4_0 was not run:\*\* no library$/m)
  assert.equal(
    outcomesOf(section).some(({ comparison }) => comparison.what.includes('Q4_0')),
    false,
  )
})

test('the share of the bandwidth is bytes decoded per second over the best read', () => {
  const section = sectionResult([
    [20, 35],
    [90, 90],
    [60, 60],
    [50, 50],
  ])
  const found = outcomesOf(section).find(({ comparison }) => comparison.kind === 'share')
  assert.ok(found)
  const bytes = bytesPerStep(shapes['qwen2.5-0.5b'], 'int4-128')
  assert.ok(Math.abs(found.spread.median - (90 * bytes) / 1e9 / 35) < 1e-9)
})

/** The first section of a plan with these values by case, and these engines missing. */
function planned(args: readonly string[], name: string, missing: SectionResult['missing'] = []) {
  const section = planSections(parseOptions(args), 'amx').find((one) => one.name === name)!
  const lacking = new Set(missing.map(({ peer }) => peer))
  const cases = section.cases
    .filter(({ use }) => !lacking.has(engineName(use)))
    .map(({ id, use }) => {
      const speed = use.peer === 'openvino' ? 50 : use.peer === 'llama.cpp' ? 40 : 100
      return { id, values: [speed, speed], measurements: [] }
    })
  return { section, load: [0, 0], cases, missing, peers: {} } satisfies SectionResult
}

const decodeArgs = ['--shape', 'qwen2.5-0.5b', '--only', 'decode', '--streams', '1']
const fastest = ['--peers', 'dutyfree-c-api,llama.cpp,openvino']

test('the fastest peer decides, and each that was measured is named with its ratio', () => {
  const result = planned([...decodeArgs, ...fastest], 'decode')
  const [first] = outcomesOf(result)
  assert.equal(first!.spread.median, 2)
  const names = first!.peers.map(({ id }) => result.section.cases.find((one) => one.id === id)!)
  assert.deepEqual(
    names.map(({ use }) => use.peer),
    ['openvino', 'llama.cpp'],
  )
  const report = renderReport(results(result))
  assert.match(
    report,
    /over the best peer \| \*\*openvino int4-128 f16\*\*; llama\.cpp Q4_0 2\.50 \| 4\.25 : 4\.125 \|/,
  )
})

test('a peer that fails leaves the comparison to the others, without which it is not run', () => {
  const openvino = { peer: 'openvino int4-128 f16', reason: 'no environment' }
  const [first] = outcomesOf(planned([...decodeArgs, ...fastest], 'decode', [openvino]))
  assert.equal(first!.spread.median, 2.5)
  const none = planned([...decodeArgs, ...fastest], 'decode', [
    openvino,
    { peer: 'llama.cpp Q4_0', reason: 'no library' },
  ])
  const report = renderReport(results(none))
  assert.match(report, /int4-128 over the best peer \|.*\| ≥ 1\.15 \| \*\*not run\*\*: no/)
})

test('vLLM is measured beside the small real shape alone, and its lack is a row that says why', () => {
  const missing = [{ peer: `vllm ${vllmWeights()}`, reason: 'needs AVX2', isUnsupported: true }]
  const result = planned(['--shape', 'smollm2-135m'], 'vllm', missing)
  assert.deepEqual(outcomesOf(result), [])
  const report = renderReport(results(result))
  assert.match(
    report,
    /first token of 1000, base: int8-128 over vLLM \|.*≥ 1 \| \*\*not run\*\*: needs AVX2/,
  )
  const others = planSections(parseOptions(['--only', 'vllm', '--shape', 'qwen2.5-0.5b']), 'amx')
  assert.deepEqual(others, [])
  assert.equal(lacksVllm(['avx', 'sse4_2']), 'needs AVX2')
  assert.equal(lacksVllm(['avx2']), null)
  assert.equal(vllmWeights(['avx2', 'avx512f']), 'float32')
  assert.equal(vllmWeights(['avx2', 'avx512f', 'avx512_bf16']), 'bfloat16')
})

test('a processor chooses its targets; one that none are set for has those that are for all', () => {
  const targetOf = (set: string, what: string) =>
    planSections(parseOptions(['--shape', 'qwen2.5-0.5b']), set)
      .flatMap(({ comparisons }) => comparisons)
      .find((one) => one.what === what)?.target
  const decode = 'decode, 8 streams: int8-128 over the best peer'
  assert.deepEqual(targetOf('amx', decode), { kind: 'at-least', value: 2.5 })
  assert.deepEqual(targetOf('avx2', decode), { kind: 'at-least', value: 2.8 })
  assert.equal(targetOf('neon', decode), null)
  const wide = '32 different adapters over 32 rows of base'
  assert.deepEqual(targetOf('avx2', wide), { kind: 'at-least', value: 0.97 })
})

test('the 7B shape is measured in 4 bits, with 1 and 8 streams and short answers', () => {
  const sections = planSections(parseOptions(['--shape', 'r1-qwen-7b']), 'avx2')
  assert.deepEqual(
    sections.map(({ title }) => title),
    ['decode, 4 bits', 'prefill'],
  )
  const cases = sections.flatMap((one) => one.cases)
  const weights = new Set(cases.map(({ use }) => use.weights).filter((one) => one !== null))
  assert.deepEqual([...weights], ['int4-128', 'Q4_0'])
  const decoded = cases.filter(({ op }) => op === 'decode').map(({ args }) => args)
  assert.deepEqual([...new Set(decoded.map(({ tokens }) => tokens))], [32])
  assert.deepEqual([...new Set(decoded.map(({ streams }) => streams))], [1, 8])
})
