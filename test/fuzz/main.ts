// npm run fuzz -- [--seed 1] [--count 10000] [--target front,tokenizer,…]
// Generated inputs against everything that reads what others wrote. Exit code 1 where a claim is
// broken; each failure is printed with its smallest input and the command that repeats it.

import { parseArgs } from 'node:util'
import { type Failure, runCampaign } from './campaign.ts'
import { batchSize, targetNames } from './plan.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '10000' },
    target: { type: 'string', default: '' },
  },
})
const seed = toCount('seed', values.seed)
const count = toCount('count', values.count)
const targets = values.target === '' ? [] : values.target.split(',')
const unknown = targets.find((name) => !targetNames.includes(name))
if (unknown !== undefined) refuse(`--target must be of ${targetNames.join(', ')}; got ${unknown}`)

const start = performance.now()
const seconds = () => ((performance.now() - start) / 1000).toFixed(0)
const outcome = await runCampaign({ seed, count, targets, onBatch: tellProgress })
for (const failure of outcome.failures) printFailure(failure)
console.log(
  `${outcome.numInputs} inputs in ${seconds()} s, ${outcome.failures.length} failures; ` +
    `to go on: --seed ${outcome.nextSeed}`,
)
process.exitCode = outcome.failures.length > 0 ? 1 : 0

function toCount(name: string, text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= 0 && value < 2 ** 31) return value
  return refuse(`--${name} must be a whole number from 0 to 2147483647; got ${text}`)
}

function refuse(message: string): never {
  console.error(`dutyfree: ${message}`)
  process.exit(2)
}

function tellProgress(done: number, next: number): void {
  if (done % (batchSize * 40) === 0)
    console.log(`${done} inputs, ${seconds()} s, next seed ${next}`)
}

function printFailure({ target, seed, input, error }: Failure): void {
  const chosen = targets.length > 0 ? ` --target ${targets.join(',')}` : ''
  console.log(
    `\nFAILED ${target}: npm run fuzz -- --seed ${seed} --count ${batchSize}${chosen}\n` +
      `${input.slice(0, 4000)}\n${error.slice(0, 3000)}\n`,
  )
}
