// npm run export-model -- --model file.gguf --output folder: installs and builds once, then exports.
import { join } from 'node:path'
import { build, installNode, root, run } from './setup.mjs'

installNode()
if (build() !== 0) process.exit(1)
const program = join(root, 'dist', 'server', 'export-model.js')
process.exit(run(process.execPath, [program, ...process.argv.slice(2)], { cwd: process.cwd() }))
