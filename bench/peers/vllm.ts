// Peer vllm: vLLM's build for processors with LoRA on, asked over HTTP with streaming. Its
// environment is that of scripts/vllm.mjs. An adapter is a model by its own name there.

import { createServer } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { adapterName } from '../models/random-adapters.ts'
import { createStreams } from './http-streams.ts'
import { type Peer, type PrefillArgs, servePeer } from './protocol.ts'

export interface VllmPeerSpec {
  /** The repository. */
  readonly root: string
  readonly checkpointDir: string
  readonly adapterRoot: string
  /** Folders in adapterRoot that it loads. */
  readonly adapters: readonly string[]
  readonly dtype: string
  readonly past: number
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function open(spec: VllmPeerSpec): Promise<Peer> {
  const scripts = new URL('vllm.mjs', pathToFileURL(`${spec.root}/scripts/`)).href
  const { startVllm, versions } = await import(scripts)
  const port = await freePort()
  const stdio = ['ignore', 'ignore', 'inherit']
  const child = await startVllm({ model: spec.checkpointDir, port, dtype: spec.dtype, stdio })
  process.on('exit', () => child.kill('SIGTERM'))
  const url = `http://127.0.0.1:${port}`
  for (const name of spec.adapters) {
    const answer = await fetch(`${url}/v1/load_lora_adapter`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ lora_name: name, lora_path: join(spec.adapterRoot, name) }),
    })
    if (!answer.ok) throw new Error(`${name} was refused: ${await answer.text()}`)
  }
  const streams = createStreams(url, spec.past, (adapter) => ({
    model: adapter === null ? 'base' : adapterName(adapter),
  }))
  return {
    info: { vllm: versions.vllm, torch: versions.torch, dtype: spec.dtype },
    operations: {
      decode: streams.decode,
      async prefill({ tokens, adapter }: PrefillArgs) {
        return { ms: await streams.firstTokenMs(tokens, adapter), tokens }
      },
    },
    close: () => streams.close(),
  }
}

await servePeer(open)
