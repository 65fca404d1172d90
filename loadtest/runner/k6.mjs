// One k6 script as a child process; gives its summary.

import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const brokenThreshold = 99
const mostLines = 20
/** Clients that are meant to leave, and thresholds, which the report tells. */
const expected = /msg="(Request Failed|thresholds on metrics)/

/**
 * Resolves to k6's summary data; rejects when k6 could not run its script. `settings` become its
 * environment. What it prints goes to `onLine`, up to a bound.
 */
export async function runK6({ k6, script, folder, settings, limitSeconds, onLine }) {
  const summary = join(folder, 'summary.json')
  const child = spawn(k6, ['run', '--quiet', '--no-usage-report', '--no-color', script], {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: limitSeconds * 1000,
    env: {
      ...process.env,
      ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)])),
      API_KEY: process.env.DUTYFREE_API_KEY?.split(',')[0] ?? '',
      SUMMARY: summary,
      // A proxy in the environment would see, and slow, requests to this machine.
      NO_PROXY: '127.0.0.1,localhost,::1',
    },
  })
  let numLines = 0
  let rest = ''
  child.stderr.setEncoding('utf8').on('data', (part) => {
    const lines = (rest + part).split('\n')
    rest = lines.pop()
    for (const line of lines) {
      if (line.trim() !== '' && !expected.test(line) && numLines++ < mostLines) onLine(line)
    }
  })
  const end = () => child.kill()
  process.once('exit', end)
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (exitCode, signal) => resolve(exitCode ?? signal))
  })
  process.off('exit', end)
  if ((code !== 0 && code !== brokenThreshold) || !existsSync(summary)) {
    throw new Error(`k6 ended with ${code}: ${script}`)
  }
  return JSON.parse(readFileSync(summary, 'utf8'))
}
