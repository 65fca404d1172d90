// Real vLLMs that this front must not serve over: the start ends, and says what to change.

import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { place, settings, small, startFront, usual, type Vllm, vllmOf } from './place.ts'

/** The same checkpoint with other numbers: each weight of the last layers' MLPs is doubled. */
function writeOtherBase(folder: string): string {
  mkdirSync(folder)
  for (const name of readdirSync(settings.model)) {
    copyFileSync(join(settings.model, name), join(folder, name))
  }
  const path = join(folder, 'model.safetensors')
  const bytes = readFileSync(path)
  const headerBytes = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >
  let numChanged = 0
  for (const [name, { dtype, data_offsets: at }] of Object.entries(header)) {
    if (!/layers\.(2\d)\.mlp\.down_proj/.test(name)) continue
    assert.equal(dtype, 'F32')
    for (let i = 8 + headerBytes + at[0]; i < 8 + headerBytes + at[1]; i += 4) {
      bytes.writeFloatLE(2 * bytes.readFloatLE(i), i)
    }
    numChanged++
  }
  assert.ok(numChanged > 0)
  writeFileSync(path, bytes)
  return folder
}

const fingerprint = join(place, 'fingerprint.json')

/** Resolves with what the front said as it ended. */
async function endOf(upstream: Vllm, flags: readonly string[] = []): Promise<string> {
  try {
    const front = await startFront([upstream], ['--upstream-fingerprint', fingerprint, ...flags])
    await front.stop()
  } catch (error) {
    return (error as Error).message
  }
  return 'it serves'
}

/** The same, of one that is started for this. */
async function endOver(name: string, options: object): Promise<string> {
  const upstream = vllmOf(name, {
    ...settings.upstreams.usual,
    port: 8414,
    maxLoras: 2,
    ...options,
  })
  await upstream.start()
  try {
    return await endOf(upstream)
  } finally {
    upstream.end()
  }
}

describe('a real vLLM that is another than it should be', () => {
  before(async () => {
    const first = await startFront([usual], ['--upstream-fingerprint', fingerprint])
    await first.stop()
  })

  it('LoRA off, though adapters may come at runtime: named, with the flag', async () => {
    const said = await endOver('lora-off', { hasLora: false, compiles: false })
    assert.match(said, /8414: .*must run with --enable-lora/)
  })

  it('lm_head prepared for adapters: named, with the list of modules', async () => {
    const said = await endOver('head-prepared', { modules: null })
    assert.match(said, /8414: .*lm_head.*--lora-target-modules q_proj/)
  })

  it('another base than the recorded one: named', async () => {
    const said = await endOver('other-base', { model: writeOtherBase(join(place, 'other-model')) })
    assert.match(said, /8414: .*fingerprint.*differs from what the upstream says, by \d/)
  })

  it('max_lora_rank too small: named', async () => {
    const said = await endOf(small)
    assert.match(said, /8413: .*--max-lora-rank must be at least --max-adapter-rank/)
  })

  it('more slots than it has: named', async () => {
    const said = await endOf(small, ['--max-adapter-rank', '1', '--upstream-slots', '3'])
    assert.match(said, /8413: .*--upstream-slots 3: it holds 1 at once/)
  })

  it('prompt-token details off and another served name: a notice, and it serves', async () => {
    const flags = ['--upstream-fingerprint', fingerprint, '--max-adapter-rank', '1']
    const front = await startFront([small], flags)
    try {
      assert.ok(front.lines.some((line) => line.includes('--enable-prompt-tokens-details')))
      assert.deepEqual((await small.names()).bases, ['another-name'])
    } finally {
      await front.stop()
    }
  })
})
