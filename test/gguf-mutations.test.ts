// Generated spoilt GGUF files: none crashes, hangs or takes memory that it merely claims to need.
// `npm run fuzz -- --target gguf` gives the many.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { openGguf } from '../server/gguf/gguf-file.ts'
import { runCampaign } from './fuzz/campaign.ts'
import { goodFiles, secondPart } from './fuzz/gguf-target.ts'
import { createTempFolder } from './support/temp-folder.ts'

it('spoilt GGUF files are read, or refused in a clear error', async () => {
  const options = { seed: 1, count: 500, targets: ['gguf'], hangMs: 60_000 }
  const { numInputs, failures } = await runCampaign(options)
  assert.deepEqual(failures, [])
  assert.equal(numInputs, 500)
})

it('the files that are spoilt are right', () => {
  const temp = createTempFolder()
  for (const [at, bytes] of [...goodFiles, secondPart].entries()) {
    writeFileSync(join(temp, `x-0000${at}-of-00002.gguf`), bytes)
  }
  const numTensors = [0, 1].map((at) => {
    const file = openGguf(join(temp, `x-0000${at}-of-00002.gguf`))
    file.readFloat32('k')
    file.close()
    return file.tensors.size
  })
  assert.deepEqual(numTensors, [4, 5])
})
