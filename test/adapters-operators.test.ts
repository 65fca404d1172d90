// The operator's own adapter at the start of the real server: whole, or no start.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import { within } from './support/deadline.ts'
import { startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { upTensors, writeAdapter } from './support/tensor-files.ts'

const temp = createTempFolder()
const adapters = join(temp, 'adapters')
mkdirSync(adapters)
const checkpoint = openCheckpoint(join(root, 'models', 'tiny-reasoner'))
const model = checkpoint.config
checkpoint.close()
const layers = Array.from({ length: model.numLayers }, (_, layer) => layer)
const whole = upTensors({ model, layers })
const zero = Object.fromEntries(
  Object.entries(whole).map(([key, tensor]) => [
    key,
    key.includes('lora_B') ? { ...tensor, data: new Float32Array(tensor.data.length) } : tensor,
  ]),
)
writeAdapter(adapters, 'whole', { tensors: whole })
writeAdapter(adapters, 'zero', { tensors: zero })
writeAdapter(adapters, 'short', { tensors: upTensors({ model, layers: layers.slice(1) }) })
writeAdapter(adapters, 'foreign', { tensors: {}, manifest: { base_digest: 'b'.repeat(64) } })
const flags = ['--adapters', adapters, '--cache-dir', join(temp, 'cache'), '--threads', '1']

for (const [flag, id, says] of [
  ['--require-adapter', 'zero', /--require-adapter .*changes nothing/],
  [
    '--require-adapter',
    'foreign',
    /--require-adapter .*cannot be used: .*for another base: base_digest bbbbbbbbbbbb…/,
  ],
  ['--default-adapter', 'short', /--default-adapter .*lacks 1 /],
] as const) {
  it(`${flag} with "${id}", which cannot do what it says here, ends the start`, async () => {
    await assert.rejects(startServer([...flags, flag, id]), says)
  })
}

/** Raw prompts may begin the answer. */
const begun = ['--begun-answers', 'allow']

it('the same server with a whole one runs it, and refuses what takes its place', async () => {
  const server = await startServer([...flags, '--require-adapter', 'whole', ...begun])
  try {
    const post = () =>
      fetch(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: '', prompt: 'Hi', max_tokens: 1 }),
      })
    const good = await post()
    assert.match(good.headers.get('x-adapter') ?? '', /^whole@/)
    await good.text()
    writeAdapter(adapters, 'whole', { tensors: zero })
    // The whole one serves until the folder has rested.
    const untilRefused = async () => {
      for (;;) {
        const response = await post()
        if (response.status !== 200) return response
        await response.text()
      }
    }
    const refused = await within(20_000, 'refusal', untilRefused())
    assert.equal(refused.status, 400)
    assert.match(await refused.text(), /changes nothing.*must be whole/)
  } finally {
    await server.stop()
  }
})
