// npm run bench -- [--quick] [--only decode,prefill] [--shape qwen2.5-0.5b] [--peers …] [--rounds 5] …
// npm run bench -- --write-docs
// Measures dutyfree beside other engines, interleaved, and writes JSON and Markdown.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { installOpenvino, installPeers } from './peers.mjs'
import { installPython, python } from './python.mjs'
import { build, installNode, root } from './setup.mjs'
import { installVllm } from './vllm.mjs'

const hasTransformers = () =>
  spawnSync(python, ['-c', 'import torch, transformers, peft']).status === 0

const own = {
  output: { type: 'string', default: join(root, 'bench', 'results') },
  'no-build': { type: 'boolean', default: false },
  'write-docs': { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
}
const { values, tokens } = parseArgs({ options: own, strict: false, tokens: true })
const ownNames = new Set(Object.keys(own))
const ownIndices = new Set(
  tokens.flatMap(({ kind, name, index, inlineValue }) => {
    if (kind !== 'option' || !ownNames.has(name)) return []
    return own[name].type === 'string' && !inlineValue ? [index, index + 1] : [index]
  }),
)
const args = process.argv.slice(2).filter((_, index) => !ownIndices.has(index))

if (!values['no-build']) {
  installNode()
  if (build() !== 0) process.exit(1)
}
const bench = await import(new URL('../dist/bench/main.js', import.meta.url).href)
if (values.help) {
  process.stdout.write(bench.usage)
  process.exit(0)
}
if (values['write-docs']) {
  if (args.length > 0) {
    console.error(`dutyfree: --write-docs measures nothing; got ${args.join(' ')}`)
    process.exit(2)
  }
  console.error(`dutyfree: wrote the benchmark's tables of ${bench.writeDocs(root).join(', ')}`)
  process.exit(0)
}
let options
try {
  options = bench.checkArguments(args)
} catch (error) {
  console.error(`dutyfree: ${error.message}\n${bench.usage}`)
  process.exit(2)
}
if (options.peers.includes('llama.cpp')) installPeers()
if (options.peers.includes('openvino')) installOpenvino()
if (bench.usesVllm(options)) installVllm()
if (options.peers.includes('transformers') && !hasTransformers()) installPython()
const base = await bench.runBenchmark({ root, args, output: resolve(values.output) })
console.log(readFileSync(`${base}.md`, 'utf8'))
console.error(`dutyfree: results in ${base}.{json,md}`)
