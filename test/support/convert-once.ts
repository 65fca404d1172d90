// Converts a checkpoint in a process of its own and prints the graph's path:
//   node convert-once.js CHECKPOINT CACHE [PHASE]
// With a phase it kills itself there, as a crash or an operator would.

import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import { convertCheckpoint } from '../../server/conversion/convert.ts'

const [dir = '', cacheDir = '', last] = process.argv.slice(2)
const checkpoint = openCheckpoint(dir)
const { maxPosition: maxContext } = checkpoint.config

function enter(phase: string): void {
  if (phase === last) process.kill(process.pid, 'SIGKILL')
}

const { graphPath } = await convertCheckpoint({
  dir,
  checkpoint,
  maxContext,
  format: { kind: 'fp32' },
  sites: [],
  cacheDir,
  onProgress: enter,
  onFlush: () => enter('flush'),
})
console.log(graphPath)
