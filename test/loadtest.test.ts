// The load tests' own parts, and its smoke test for a few seconds against the real server, which the
// runner starts itself.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { root } from './support/root.ts'

const load = (path: string) => import(new URL(path, `file://${root}/`).href)
const { readEvents } = await load('loadtest/runner/events.mjs')
const { lineThrough, quantile, rateOf, slopeOf } = await load('loadtest/runner/statistics.mjs')
const { wasInForce } = await load('loadtest/runner/versions.mjs')
const { judgeRun } = await load('loadtest/runner/verdicts.mjs')
const { isBroken } = await load('loadtest/runner/report.mjs')
const { findK6, howToGetK6 } = await load('scripts/k6.mjs')

/** A reason to skip, or false; a missing k6 is a failure under REQUIRE_ALL. */
const lacksK6 = (): string | false =>
  process.env.DUTYFREE_REQUIRE_ALL === '1' || findK6() !== undefined ? false : howToGetK6

const loadtest = (args: readonly string[]) =>
  spawnSync(process.execPath, [join(root, 'scripts/loadtest.mjs'), ...args], {
    encoding: 'utf8',
    timeout: 240_000,
  })

async function readAll(parts: readonly Uint8Array[]): Promise<string[]> {
  const found: string[] = []
  for await (const data of readEvents(parts)) found.push(data)
  return found
}

describe('the Node client’s event streams', () => {
  it('are read alike wherever the bytes are split, with every end of line', async () => {
    for (const end of ['\n', '\r\n', '\r']) {
      const lines = [': a comment', 'data: {"é": "🙂"}', '', 'event: x', 'data:a', 'data: b', '']
      const bytes = Buffer.from([...lines, 'data: cut off'].join(end))
      for (let at = 0; at <= bytes.length; at++) {
        const parts = [bytes.subarray(0, at), bytes.subarray(at)]
        assert.deepEqual(await readAll(parts), ['{"é": "🙂"}', 'a\nb'], `${end} split at ${at}`)
      }
    }
  })
})

describe('the load tests’ numbers', () => {
  const samples = [0, 10, 20, 30].map((atSeconds) => ({
    atSeconds,
    tokens: 5 * atSeconds,
    rssMiB: 100 + atSeconds / 10,
  }))

  it('a rate, a slope and a quantile are what they are by hand', () => {
    assert.equal(rateOf(samples, 'tokens', { from: 5, to: 25 }), 5)
    assert.equal(rateOf(samples, 'tokens', { from: 5, to: 15 }), undefined)
    assert.equal(slopeOf(samples, 'tokens', { from: 5, to: 30 }), 5)
    const { perSecond, mean } = lineThrough(samples, 'rssMiB')
    assert.ok(Math.abs(perSecond - 0.1) < 1e-12)
    assert.equal(mean, 101.5)
    // 1, 2 and 6 lie 0.5, 1 and 0.5 beside their line of slope 2.5: √(1.5 / 1 / 2).
    const points = [1, 2, 6].map((tokens, atSeconds) => ({ atSeconds, tokens }))
    assert.ok(Math.abs(lineThrough(points, 'tokens').error - Math.sqrt(0.75)) < 1e-12)
    assert.equal(quantile([4, 1, 3, 2], 0.5), 3)
    assert.equal(quantile([], 0.5), undefined)
  })
})

describe('the load tests’ changes', () => {
  it('a version counts from its sending until the next one’s answer, and no adapter is a version', () => {
    const entries = [
      { digest: 'aa11', sentMs: 0, doneMs: 0 },
      { digest: 'bb22', sentMs: 100, doneMs: 120 },
      { digest: null, sentMs: 200, doneMs: 220 },
    ]
    const inForce = (digest: string | null, from: number, to: number): boolean =>
      wasInForce(entries, digest, from, to)
    assert.deepEqual(
      [inForce('aa', 110, 130), inForce('aa', 121, 130), inForce('bb', 90, 99)],
      [true, false, false],
    )
    assert.deepEqual(
      [inForce('bb', 90, 100), inForce(null, 150, 199), inForce(null, 150, 200)],
      [true, false, true],
    )
    assert.deepEqual([inForce('bb', 221, 300), inForce('cc', 0, 300)], [false, false])
  })
})

describe('the load tests’ verdicts', () => {
  const sample = { disconnects: 0, restarts: 0, descriptors: 60 }
  /** A soak in which all is well. */
  const soak = () => ({
    name: 'soak',
    k6: { metrics: { lost: { values: { count: 0 }, thresholds: { 'count==0': { ok: true } } } } },
    streams: { records: [{ end: 'answered', firstMs: 10, isWrong: false }], gaps: [1] },
    samples: [0, 200, 400, 600].map((atSeconds) => ({ ...sample, atSeconds, rssMiB: 300 })),
    rest: { before: 60, after: 60 },
    shutdown: { numStreams: 16, numWhole: 16, seconds: 4, exitCode: 0, newcomer: 503 },
    changed: {
      changes: ['a', 'b', 'c', 'd', 'merge', 'unmerge'].map((what) => ({ what })),
      bad: [{ what: 'cut' }],
    },
    remains: { before: ['safety-r1'], listed: ['safety-r1'], staged: [], isFreed: true },
  })
  const brokenOf = (run: unknown): string[] =>
    judgeRun(run)
      .filter((row: unknown) => isBroken(row, true))
      .map(({ what }: { what: string }) => what)

  it('a good soak has none broken', () => {
    assert.deepEqual(brokenOf(soak()), [])
  })

  it('memory that swings holds, and growth beyond the swing does not', () => {
    const swinging = (perSecond: number) => ({
      ...soak(),
      samples: Array.from({ length: 20 }, (_, i) => ({
        ...sample,
        atSeconds: 30 * i,
        rssMiB: 300 + (i % 2 === 0 ? 0 : 30) + 30 * i * perSecond,
      })),
    })
    assert.deepEqual(brokenOf(swinging(0)), [])
    assert.deepEqual(brokenOf(swinging(0.3)), ['RSS slope after warm-up, in ten minutes'])
  })

  it('a wrong adapter, a lost stream, growth and a cut stream each break one', () => {
    const good = soak()
    const cases: Array<[unknown, string]> = [
      [
        { ...good, streams: { records: [{ end: 'answered', isWrong: true }], gaps: [] } },
        'Node client: wrong adapter or text',
      ],
      [{ ...good, streams: { records: [{ end: 'lost' }], gaps: [] } }, 'Node client: lost'],
      [{ ...good, rest: { before: 60, after: 61 } }, 'descriptors at rest'],
      [
        { ...good, samples: good.samples.map((s) => ({ ...s, rssMiB: 300 + s.atSeconds / 100 })) },
        'RSS slope after warm-up, in ten minutes',
      ],
      [
        { ...good, changed: { ...good.changed, bad: [{ what: 'cut', error: 'accepted' }] } },
        'bad uploads refused, each with its code',
      ],
      [
        { ...good, changed: { ...good.changed, changes: good.changed.changes.slice(1) } },
        'changes that failed',
      ],
      [
        { ...good, remains: { ...good.remains, listed: ['guest', 'safety-r1'] } },
        'adapters after all changes',
      ],
      [{ ...good, shutdown: { ...good.shutdown, numWhole: 15 } }, 'SIGTERM: streams whole'],
    ]
    for (const [run, what] of cases) assert.deepEqual(brokenOf(run), [what])
  })
})

describe('npm run loadtest', () => {
  it('smoke holds for 5 s and leaves a report', { skip: lacksK6() }, () => {
    const results = mkdtempSync(join(tmpdir(), 'dutyfree-loadtest-'))
    try {
      const flags = ['--duration', '5s', '--rate', '1', '--no-build', '--results', results]
      const { status, stdout, stderr } = loadtest(['smoke', ...flags, '--correctness-only'])
      assert.equal(status, 0, `${stdout}\n${stderr}`)
      const names = readdirSync(results).filter((name) => !name.endsWith('.png'))
      assert.deepEqual(names.sort(), ['smoke.json', 'smoke.md'])
      const { k6, streams } = JSON.parse(readFileSync(join(results, 'smoke.json'), 'utf8'))
      assert.ok(k6.answered.count >= 2)
      assert.equal(k6.checks.fails, 0)
      assert.ok(streams.firstMs.every((ms: number) => ms > 0))
      assert.match(readFileSync(join(results, 'smoke.md'), 'utf8'), /# smoke: holds/)
    } finally {
      rmSync(results, { recursive: true, force: true })
    }
  })

  it('refuses another machine, what would not end soon, and what it does not know', () => {
    const cases = [
      [['smoke', '--url', 'http://192.0.2.1:8000'], /not this machine/],
      [['smoke', '--duration', '2h'], /--duration must be/],
      [['smoke', '--duration', '61m'], /--duration must be/],
      [['smoke', '--rate', '100000'], /--rate must be/],
      [['storm'], /no load test is called "storm"/],
      [[], /name a load test/],
    ] as const
    for (const [args, message] of cases) {
      const { status, stderr } = loadtest(args)
      assert.equal(status, 2)
      assert.match(stderr, message)
    }
  })
})
