// npm run fuzz -- [--seed 1] [--count 10000] [--target front,…]: builds, then runs test/fuzz/main.ts.

import { join } from 'node:path'
import { build, installNode, root, run } from './setup.mjs'

installNode()
if (build() !== 0) process.exit(1)
process.exit(
  run(process.execPath, [join(root, 'dist', 'test', 'fuzz', 'main.js'), ...process.argv.slice(2)]),
)
