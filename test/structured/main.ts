// npm run structured -- [--count 1000] [--seed 1] [--model FOLDER or GGUF] [--max-tokens 400]
// Random schemas as response_format against a server of its own, of models/tiny-reasoner by default. Exit
// code 1 where an answer does not validate; each is printed.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startServer } from '../support/real-server.ts'
import { root } from '../support/root.ts'
import { runCampaign } from './campaign.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    model: { type: 'string', default: join(root, 'models', 'tiny-reasoner') },
    'max-tokens': { type: 'string', default: '400' },
    'cache-dir': { type: 'string', default: '' },
  },
})

const temp = mkdtempSync(join(tmpdir(), 'dutyfree-structured-'))
const cache = values['cache-dir'] === '' ? join(temp, 'cache') : values['cache-dir']
const flags = ['--model', values.model, '--cache-dir', cache, '--max-batch', '8']
const server = await startServer([...flags, '--served-model-name', 'model'], {
  readyWithinMs: 600_000,
})
try {
  const start = performance.now()
  const outcome = await runCampaign({
    url: `${server.url}/v1`,
    model: 'model',
    seed: Number(values.seed),
    count: Number(values.count),
    maxTokens: Number(values['max-tokens']),
    width: 8,
    onAnswer(done, { numValid, invalid, numCut }) {
      if (done % 25 !== 0) return
      const so = `${numValid} valid, ${invalid.length} invalid, ${numCut} cut`
      console.log(`${done} answers: ${so}`)
    },
  })
  for (const { schema, text, why } of outcome.invalid) {
    console.log(`\nINVALID ${why}\n${schema.slice(0, 4000)}\n${text.slice(0, 2000)}`)
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  console.log(
    `${outcome.numValid} valid, ${outcome.invalid.length} invalid, ${outcome.numCut} cut by ` +
      `max_tokens; ${outcome.numTokens} tokens in ${seconds} s`,
  )
  if (outcome.invalid.length > 0) process.exitCode = 1
} finally {
  await server.stop()
  rmSync(temp, { recursive: true, force: true })
}
