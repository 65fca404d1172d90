// The load test's smoke script for a few seconds against the real server, started by the runner itself.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { root } from './support/root.ts'

const runner = join(root, 'scripts/loadtest.mjs')

/** A reason to skip, or false; a missing k6 is a failure under REQUIRE_ALL. */
const lacksK6 = async (): Promise<string | false> => {
  if (process.env.DUTYFREE_REQUIRE_ALL === '1') return false
  const { findK6, howToGetK6 } = await import(new URL('scripts/k6.mjs', `file://${root}/`).href)
  return findK6() === undefined ? howToGetK6 : false
}

const loadtest = (args: readonly string[]) =>
  spawnSync(process.execPath, [runner, ...args], { encoding: 'utf8', timeout: 240_000 })

describe('npm run loadtest', async () => {
  it('smoke holds its thresholds for 5 s and leaves a report', { skip: await lacksK6() }, () => {
    const reports = mkdtempSync(join(tmpdir(), 'dutyfree-loadtest-'))
    try {
      const flags = ['--duration', '5s', '--rate', '1', '--no-build', '--reports', reports]
      const { status, stdout, stderr } = loadtest(['smoke', ...flags])
      assert.equal(status, 0, `${stdout}\n${stderr}`)
      const names = readdirSync(reports).sort()
      assert.deepEqual(
        names.map((name) => name.slice(name.lastIndexOf('.'))),
        ['.json', '.md'],
      )
      const { metrics } = JSON.parse(readFileSync(join(reports, names[0] as string), 'utf8'))
      assert.ok(metrics.iterations.values.count >= 4)
      assert.equal(metrics.checks.values.fails, 0)
      assert.ok(metrics.stream_chunks.values.min >= 3)
      assert.match(readFileSync(join(reports, names[1] as string), 'utf8'), /time to first token/)
    } finally {
      rmSync(reports, { recursive: true, force: true })
    }
  })

  it('refuses another machine, and what would not end soon', () => {
    const cases = [
      [['--url', 'http://192.0.2.1:8000'], /not this machine/],
      [['--duration', '2h'], /--duration must be/],
      [['--rate', '100000'], /--rate must be/],
      [['soak'], /no load test is called "soak"/],
    ] as const
    for (const [args, message] of cases) {
      const { status, stderr } = loadtest(args)
      assert.equal(status, 2)
      assert.match(stderr, message)
    }
  })
})
