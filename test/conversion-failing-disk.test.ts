// A disk that fails at each step of a conversion in turn: the operator reads what to do, nothing half is
// left or used, and the next start converts as if nothing had been.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import { convertCheckpoint } from '../server/conversion/convert.ts'
import { writeRandomCheckpoint } from './support/random-checkpoint.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const dir = writeRandomCheckpoint(join(temp, 'model'), 'qwen2', 1)

// What a step that changes the disk calls. Patched in place, so that every import of node:fs has it.
const steps = [
  'mkdirSync',
  'writeFileSync',
  'truncateSync',
  'openSync',
  'writeSync',
  'fsyncSync',
  'renameSync',
] as const
const original = Object.fromEntries(steps.map((name) => [name, fs[name]]))

interface Fault {
  readonly code: string
  /** Number of the first step that fails. */
  readonly from: number
  /** Whether all later ones fail too. */
  readonly lasts: boolean
}

/** Counts the steps; some fail as the fault says. `failed`: what they were about to change. */
function injectFault({ code, from, lasts }: Fault) {
  let numSteps = 0
  const failed: string[] = []
  for (const name of steps) {
    const run = original[name] as unknown as (...args: readonly unknown[]) => unknown
    Object.assign(fs, {
      [name](...args: readonly unknown[]) {
        // Opening a file to read it changes nothing.
        if (name === 'openSync' && args[1] !== 'r+') return run(...args)
        const step = numSteps++
        const fails = lasts ? step >= from : step === from
        if (!fails) return run(...args)
        failed.push(String(args[0]))
        throw Object.assign(new Error(`${code}: ${name}`), { code, syscall: name })
      },
    })
  }
  syncBuiltinESMExports()
  return { numSteps: () => numSteps, failed }
}

function repair(): void {
  Object.assign(fs, original)
  syncBuiltinESMExports()
}
after(repair)

async function convert(cacheDir: string): Promise<string> {
  const checkpoint = openCheckpoint(dir)
  const format = { kind: 'fp32' } as const
  try {
    const options = { dir, checkpoint, maxContext: 64, format, sites: [], cacheDir }
    return (await convertCheckpoint(options)).graphPath
  } finally {
    checkpoint.close()
  }
}

/** Every file of the cache that a start may use, but for the time stamps in manifest and memory. */
function filesOf(cacheDir: string): ReadonlyMap<string, string> {
  const names = fs.readdirSync(cacheDir, { recursive: true, encoding: 'utf8' }).sort()
  const kept = names.filter((name) => name.endsWith('.onnx') || name.endsWith('.bin'))
  return new Map(kept.map((name) => [name, fs.readFileSync(join(cacheDir, name), 'base64')]))
}

const clean = join(temp, 'clean')
const counted = injectFault({ code: '', from: Number.POSITIVE_INFINITY, lasts: false })
await convert(clean)
repair()
const numSteps = counted.numSteps()
const whole = filesOf(clean)

const told: Record<string, RegExp> = {
  ENOSPC: /^The disk of .* filled up while the checkpoint was converted, .* --cache-dir\.$/,
  EROFS: /^--cache-dir must be a folder that can be written; .* cannot \(EROFS\)\.$/,
  EIO: /^The disk of .* failed \(EIO\): look at it, or name a folder .* --cache-dir\.$/,
}

describe('a conversion on a disk that fails', () => {
  it('has many steps to fail at', () => assert.ok(numSteps > 20, `${numSteps} steps`))

  for (const [code, message] of Object.entries(told)) {
    for (const lasts of [false, true]) {
      it(lasts ? `${code} from each step on` : `${code} at each step`, async () => {
        for (let from = 0; from < numSteps; from++) {
          const cache = join(temp, `${code}-${lasts}-${from}`)
          const { failed } = injectFault({ code, from, lasts })
          const outcome = await convert(cache).then(
            () => null,
            (error: Error & { code: string }) => error,
          )
          repair()
          const where = `step ${from}`
          if (outcome === null) {
            // A hash that is not remembered is computed again: no reason to stop.
            assert.ok(
              failed.every((path) => path.startsWith(join(cache, 'hashes'))),
              where,
            )
          } else {
            assert.equal(outcome.code, 'invalid_config', `${where}: ${outcome.stack}`)
            // The folder of the cache itself may be what cannot be made.
            assert.match(outcome.message, from < 1 ? /--cache-dir/ : message, where)
          }
          if (fs.existsSync(cache)) {
            const names = fs.readdirSync(cache, { recursive: true, encoding: 'utf8' })
            assert.deepEqual(
              names.filter((name) => name.includes('.partial')),
              [],
              where,
            )
          }
          await convert(cache)
          assert.deepEqual(filesOf(cache), whole, where)
          fs.rmSync(cache, { recursive: true })
        }
      })
    }
  }
})
