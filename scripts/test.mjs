// npm test: installs what is missing, then every check there is, each with its seconds.
//   npm test                    everything
//   npm test -- scheduler http  the node tests and checks whose name contains one of these
//   npm test -- --without accelerator --without pytest   everything but those

import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { installPython, python } from './python.mjs'
import { build, installNode, root, run } from './setup.mjs'

const { values, positionals: filters } = parseArgs({
  options: { without: { type: 'string', multiple: true, default: [] } },
  allowPositionals: true,
})
const isLeftOut = (name) => values.without.some((part) => name.includes(part))
const isNamed = (name) => filters.some((part) => name.includes(part))
const isChosen = (name) => !isLeftOut(name) && (filters.length === 0 || isNamed(name))
installNode()
installPython()

const bin = (name) => join(root, 'node_modules', '.bin', name)
// A test that was renamed must not linger as its old compiled self.
rmSync(join(root, 'dist'), { recursive: true, force: true })

function nodeTests() {
  const folder = join(root, 'dist', 'test')
  const files = readdirSync(folder).filter((name) => name.endsWith('.test.js'))
  const chosen = files.filter(isChosen)
  const isOfOthers = filters.length > 0 && steps.some(([name]) => isNamed(name))
  if (chosen.length === 0 && isOfOthers) return 0
  if (chosen.length === 0) {
    console.error(`dutyfree: no test file and no check has a name with ${filters.join(', ')} in it`)
    return 1
  }
  return run(process.execPath, [
    '--test',
    '--test-reporter=spec',
    '--test-concurrency=2',
    ...chosen.map((name) => join(folder, name)),
  ])
}

const training = join(root, 'training')
const all = [
  ['build (tsc)', build],
  ['format and lint (biome)', () => run(bin('biome'), ['ci', '--error-on-warnings', '.'])],
  ['dead code (knip)', () => run(bin('knip'), ['--no-progress'])],
  ['node tests', nodeTests],
  ['lint (ruff)', () => run(python, ['-m', 'ruff', 'check', training])],
  ['format (ruff)', () => run(python, ['-m', 'ruff', 'format', '--check', training])],
  ['pytest', () => run(python, ['-m', 'pytest', '-q', training])],
]
const steps = all.filter(([name]) => /build|node/.test(name) || isChosen(name))

const results = []
for (const [name, step] of steps) {
  console.log(`\n── ${name}`)
  const start = performance.now()
  const failed = step() !== 0
  results.push({ name, failed, seconds: (performance.now() - start) / 1000 })
}
console.log('\n── summary')
for (const { name, failed, seconds } of results) {
  console.log(`${failed ? 'FAIL' : 'ok  '} ${seconds.toFixed(1).padStart(7)} s  ${name}`)
}
const total = results.reduce((sum, { seconds }) => sum + seconds, 0)
console.log(`${total.toFixed(1)} s in all`)
process.exit(results.some(({ failed }) => failed) ? 1 : 0)
