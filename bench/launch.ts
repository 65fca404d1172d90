// Starts the peer that a case asks for, with everything it needs on disk made first.

import { join } from 'node:path'
import type { LinearModule } from '../server/contracts/checkpoint.ts'
import {
  type BenchFiles,
  ensureAdapters,
  ensureCheckpoint,
  ensureGguf,
  ensureOurGraph,
} from './files.ts'
import { lacksVllm } from './machine.ts'
import { adapterName } from './models/random-adapters.ts'
import { shapes } from './models/shapes.ts'
import { weightTypes } from './models/weight-types.ts'
import type { BenchOptions } from './options.ts'
import { type PeerProcess, startPeer } from './peer-process.ts'
import { weightFlags } from './peers/engine-runner.ts'
import { UnsupportedPeer } from './run.ts'
import type { PeerUse } from './sections/section.ts'
import { coldAdapters, firstColdAdapter, httpAdapters } from './sections/switch.ts'

const usualRows = 8
/** Prompt, decoded tokens and a little more. */
const usualCapacity = 1024

function node(peer: string): [string, string] {
  return [process.execPath, join(import.meta.dirname, 'peers', `${peer}.js`)]
}

export async function launchPeer(
  use: PeerUse,
  options: BenchOptions,
  files: BenchFiles,
): Promise<PeerProcess> {
  const { shape, weights, rows = usualRows, capacity = usualCapacity } = use
  const { threads, promptTokens: past } = options
  switch (use.peer) {
    case 'bandwidth':
      return startPeer(node('bandwidth'), { graphPath: join(files.graphs, 'sum.onnx'), threads })
    case 'adapter-store':
      return startPeer(node('adapter-store'), {
        shape: shapes[shape],
        adapterRoot: ensureAdapters(files, shape, coldAdapters),
        count: coldAdapters,
      })
    case 'dutyfree-c-api':
    case 'onnxruntime-node': {
      const sites: readonly LinearModule[] = use.hasSites ? ['up_proj'] : []
      const { format } = weightTypes[weights!]
      await ensureOurGraph(files, shape, weights!, sites, capacity)
      return startPeer(node(use.peer === 'dutyfree-c-api' ? 'engine' : 'onnxruntime-node'), {
        checkpointDir: files.checkpoint(shape),
        cacheDir: files.graphs,
        format,
        sites,
        capacity,
        rows,
        threads,
        resident: use.resident,
        adapterRoot: ensureAdapters(files, shape, use.resident),
        past,
      })
    }
    case 'llama.cpp':
      return startPeer(node('llama-cpp'), {
        packageRoot: join(files.root, 'bench', 'peers'),
        modelPath: ensureGguf(files, shape, weights as 'Q4_0' | 'Q8_0'),
        adapterRoot: files.ggufAdapters(shape),
        shape: shapes[shape],
        threads,
        rows,
        capacity,
        past,
      })
    case 'openvino':
      return startPeer(
        [
          join(files.root, '.cache', 'openvino', 'bin', 'python'),
          join(files.root, 'bench', 'peers', 'openvino_peer.py'),
        ],
        {
          checkpointDir: ensureCheckpoint(files, shape),
          modelDir: files.openvino(shape, weights!),
          bits: weights === 'int8-128 f16' ? 8 : 4,
          group: 128,
          vocab: shapes[shape].vocab,
          threads,
          past,
        },
      )
    case 'vllm': {
      const lacks = lacksVllm()
      if (lacks !== null) throw new UnsupportedPeer(lacks)
      return startPeer(node('vllm'), {
        root: files.root,
        checkpointDir: ensureCheckpoint(files, shape),
        adapterRoot: ensureAdapters(files, shape, 8),
        adapters: Array.from({ length: 8 }, (_, index) => adapterName(index)),
        dtype: weights,
        past,
      })
    }
    case 'transformers': {
      const python = join(files.root, 'training', '.venv', 'bin', 'python')
      const script = join(files.root, 'bench', 'peers', 'transformers_peer.py')
      const root = ensureAdapters(files, shape, use.resident)
      return startPeer([python, script], {
        checkpointDir: ensureCheckpoint(files, shape),
        dtype: weights,
        adapter: use.resident > 0 ? join(root, adapterName(0)) : null,
        threads,
        rows,
        past,
      })
    }
    case 'dutyfree-http': {
      const { format } = weightTypes[weights!]
      await ensureOurGraph(files, shape, weights!, ['up_proj'], capacity)
      const settings = [
        ...weightFlags(format!),
        ...['--max-batch', `${rows}`, '--max-context', `${capacity}`, '--threads', `${threads}`],
      ]
      return startPeer(node('http'), {
        root: files.root,
        flags: [
          ...['--model', files.checkpoint(shape), '--cache-dir', files.graphs],
          ...['--adapters', ensureAdapters(files, shape, httpAdapters)],
          ...settings,
        ],
        about: { flags: settings.join(' ') },
        past,
        firstCold: firstColdAdapter,
      })
    }
  }
}
