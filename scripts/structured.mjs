// npm run structured -- [--count 1000] [--seed 1] [--model FOLDER or GGUF | --real]: builds, then runs
// test/structured/main.ts. --real: SmolLM2, as the demo fetches it.

import { join } from 'node:path'
import { FetchError, fetchModel } from './real-model.mjs'
import { build, installNode, root, run } from './setup.mjs'

installNode()
if (build() !== 0) process.exit(1)
const args = process.argv.slice(2)
const given = args.filter((argument) => argument !== '--real')
if (given.length < args.length) {
  const { parseCommand } = await import(new URL('../dist/server/config.js', import.meta.url).href)
  const { cacheDir } = parseCommand([], process.env).config
  try {
    given.push('--model', fetchModel({ cacheDir }), '--cache-dir', cacheDir)
  } catch (error) {
    if (!(error instanceof FetchError)) throw error
    console.error(`dutyfree: ${error.message}`)
    process.exit(1)
  }
}
process.exit(run(process.execPath, [join(root, 'dist', 'test', 'structured', 'main.js'), ...given]))
