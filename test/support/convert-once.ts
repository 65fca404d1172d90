// Converts a checkpoint in a process of its own and prints the graph's path:
//   node convert-once.js CHECKPOINT CACHE

import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import { convertCheckpoint } from '../../server/conversion/convert.ts'

const [dir = '', cacheDir = ''] = process.argv.slice(2)
const checkpoint = openCheckpoint(dir)
const { maxPosition: maxContext } = checkpoint.config
const { graphPath } = await convertCheckpoint({
  dir,
  checkpoint,
  maxContext,
  format: { kind: 'fp32' },
  sites: [],
  cacheDir,
})
console.log(graphPath)
