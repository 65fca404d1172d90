// The peer OpenVINO gives a checkpoint's own answers: its speed would otherwise be that of some other
// model. Its environment is the benchmark's (npm run bench makes it), not npm test's.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { startPeer } from '../bench/peer-process.ts'
import { root } from './support/root.ts'
import { openServedModel } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const python = join(root, '.cache', 'openvino', 'bin', 'python')
const lacks = existsSync(python) ? false : '.cache/openvino is missing: npm run bench makes it'
const temp = createTempFolder()
const checkpointDir = join(root, 'models', 'tiny-reasoner')

/** Token ids of the small model; more than one group of a row's positions. */
const ids = Array.from({ length: 24 }, (_, i) => (37 * i + 11) % 780)

/** KL(p ‖ q) of two softmaxes, in nats. */
function divergence(p: readonly number[], q: readonly number[]): number {
  const logs = [p, q].map((logits) => {
    const most = Math.max(...logits)
    const total = logits.reduce((sum, value) => sum + Math.exp(value - most), 0)
    return logits.map((value) => value - most - Math.log(total))
  })
  return logs[0]!.reduce((sum, value, i) => sum + Math.exp(value) * (value - logs[1]![i]!), 0)
}

for (const bits of [8, 4]) {
  test(`OpenVINO of ${bits} bits computes what the checkpoint says`, { skip: lacks }, async () => {
    const model = await openServedModel({ checkpoint: checkpointDir, adapters: temp })
    const own = await model.runner.prefill({ row: 0, tokens: ids, past: 0, components: [] })
    const expected = [...own]
    model.close()
    const script = join(root, 'bench', 'peers', 'openvino_peer.py')
    const modelDir = join(temp, `int${bits}`)
    const spec = { checkpointDir, modelDir, bits, group: 128, vocab: 780, threads: 1, past: 16 }
    const peer = await startPeer([python, script], spec)
    try {
      const found = Object.values(await peer.call('logits', { ids, streams: 3 }))
      assert.equal(found.length, expected.length)
      const nats = divergence(expected, found)
      assert.ok(nats < (bits === 8 ? 0.01 : 0.2), `KL ${nats} to the checkpoint's own logits`)
      const { ms, tokens } = await peer.call('decode', { streams: 3, tokens: 4 })
      assert.ok(ms! > 0)
      assert.equal(tokens, 12)
      assert.ok((await peer.call('prefill', { tokens: 16 })).ms! > 0)
      assert.ok(existsSync(join(modelDir, 'model.xml')))
    } finally {
      await peer.stop()
    }
  })
}

test('a checkpoint that is not there is an error that names it', { skip: lacks }, async () => {
  const script = join(root, 'bench', 'peers', 'openvino_peer.py')
  const missing = { checkpointDir: join(temp, 'none'), modelDir: join(temp, 'x'), bits: 4 }
  const spec = { ...missing, group: 128, vocab: 780, threads: 1, past: 16 }
  await assert.rejects(startPeer([python, script], spec), /config\.json/)
})
