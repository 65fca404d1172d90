// The flags of an engine that another server computes for. docs/SCALE-OUT.md says what they mean together.

import { resolve } from 'node:path'
import type { UpstreamOptions } from './contracts/engine.ts'
import { ServerError } from './errors.ts'
import { flag, setting } from './flag-schema.ts'
import { integer, oneOf, positiveDuration, text, upstreamUrls } from './flag-values.ts'

export const upstreamFlags = {
  engine: setting(oneOf(['own', 'vllm']), {
    value: '<own|vllm>',
    default: 'own',
    description: 'Who computes: own, this server; vllm, one or more vLLM servers (--upstream)',
  }),
  upstream: flag(upstreamUrls, {
    value: '<url,…>',
    default: null,
    description: 'Addresses of vLLM servers of one base; the flag may be given more than once',
  }),
  upstreamAdapters: flag(text, {
    value: '<folder>',
    default: null,
    description:
      'Folder that this server writes and every upstream reads, at the same path; adapters are registered from it',
  }),
  upstreamSlots: flag(integer(1, 1024), {
    value: '<n>',
    default: null,
    shownDefault: 'what it says',
    description: 'Adapters that one upstream holds at once (--max-loras of vLLM)',
  }),
  upstreamTimeout: setting(positiveDuration, {
    value: '<duration>',
    default: '60s',
    description: 'Longest pause between two tokens of an upstream; beyond it the request fails',
  }),
  upstreamKeyFile: flag(text, {
    value: '<file>',
    default: null,
    description: 'File of the bearer key of the upstreams',
  }),
  upstreamFingerprint: flag(text, {
    value: '<file>',
    default: null,
    shownDefault: 'in --cache-dir',
    description:
      "The base's log-probabilities on fixed texts; recorded where the file is missing, compared ever after",
  }),
}

/** Flags of what our own engine computes with. */
const ownFlags = [
  'device',
  'onnxruntime',
  'kernels',
  'weights',
  'kv-cache-dtype',
  'weight-block',
  'weight-zero-points',
  'kv-memory',
  'threads',
  'adapter-modules',
  'guard-exact',
  'merge',
]

interface UpstreamFlags {
  readonly engine: 'own' | 'vllm'
  readonly upstream: readonly string[] | null
  readonly upstreamAdapters: string | null
  readonly upstreamSlots: number | null
  readonly upstreamTimeout: number
  readonly upstreamFingerprint: string | null
  readonly maxBatch: number
  readonly judgeEvery: number
  readonly guard: { readonly kind: string }
}

const healthMs = 2000
const healthTimeoutMs = 5000
/** Streams at once where --max-batch does not say: vLLM has a queue of its own. */
const usualStreams = 256
/** Verdicts at the end of a reply only: each costs a prefill. */
const onlyAtEnd = 1_048_576

/** `given`: names of flags that were set. Throws where they contradict one another. */
export function checkUpstreamFlags<Flags extends UpstreamFlags>(
  flags: Flags,
  given: ReadonlySet<string>,
): Flags {
  if (flags.engine === 'own') {
    const name = [...given].find((name) => name.startsWith('upstream'))
    if (name === undefined) return flags
    throw contradiction(name, 'needs --engine vllm')
  }
  if (flags.upstream === null) throw contradiction('upstream', 'must name a vLLM server')
  if (flags.upstreamAdapters === null) {
    throw contradiction('upstream-adapters', 'must name a folder that every upstream reads')
  }
  const foreign = ownFlags.find((name) => given.has(name))
  if (foreign !== undefined) {
    throw contradiction(foreign, 'has no meaning with --engine vllm: set it on the upstream')
  }
  return {
    ...flags,
    maxBatch: given.has('max-batch') ? flags.maxBatch : usualStreams,
    judgeEvery: given.has('judge-every') ? flags.judgeEvery : onlyAtEnd,
    // A guard that nobody measured there judges only where it was chosen by name.
    guard: flags.guard.kind === 'auto' ? { kind: 'none' } : flags.guard,
  }
}

function contradiction(name: string, message: string): ServerError {
  return new ServerError('invalid_config', `--${name} ${message}`)
}

/** null: our own engine computes. `key`: what --upstream-key-file holds. */
export function upstreamOptions(
  flags: UpstreamFlags,
  cwd: string,
  key: string | null,
): UpstreamOptions | null {
  const { engine, upstream, upstreamAdapters, upstreamFingerprint } = flags
  if (engine === 'own' || upstream === null || upstreamAdapters === null) return null
  return {
    urls: upstream,
    adaptersDir: resolve(cwd, upstreamAdapters),
    slots: flags.upstreamSlots,
    silenceMs: flags.upstreamTimeout,
    healthMs,
    healthTimeoutMs,
    key,
    fingerprint: upstreamFingerprint === null ? null : resolve(cwd, upstreamFingerprint),
  }
}
