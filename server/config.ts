// Every flag of the server, once: its environment variable, its --help line and its row in docs/FLAGS.md
// all come from the schema below. Parsing is pure: argv and env come in, a Config or ServerError comes out.

import { homedir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { adminFlags, checkAdminFlags } from './admin-flags.ts'
import { type AdapterRef, usualAdapterModules } from './contracts/adapter.ts'
import type { EngineOptions } from './contracts/engine.ts'
import { modelNameOf } from './contracts/model-path.ts'
import { reasoningFields } from './contracts/thought.ts'
import { ServerError } from './errors.ts'
import { type FlagText, flag, flagTexts, setting } from './flag-schema.ts'
import {
  adapterStrength,
  apiKeys,
  blockSize,
  headerName,
  integer,
  list,
  modules,
  oneOf,
  onOff,
  origins,
  parseDuration,
  parseSize,
  positiveDuration,
  requiredAdapter,
  text,
} from './flag-values.ts'
import { checkSafetyFlags, guardOption, safetyFlags } from './safety-flags.ts'
import { checkUpstreamFlags, upstreamFlags, upstreamOptions } from './upstream-flags.ts'

export { checkAdminKey } from './admin-flags.ts'
export { checkKeyFloors } from './safety-flags.ts'

const cacheRoot = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')

const configSchema = z.strictObject({
  model: setting(text, {
    value: '<folder, file or id>',
    default: 'models/tiny-reasoner',
    description:
      'Checkpoint folder, GGUF file, or org/name[@revision][:quant] on a Hugging Face hub',
  }),
  servedModelName: flag(text, {
    value: '<id>',
    default: null,
    shownDefault: 'name of folder, file or id',
    description: "The base model's id in the API",
  }),
  adapters: setting(text, {
    value: '<folder>',
    default: 'adapters',
    description: 'Folder of adapters; each sub-folder is one',
  }),
  adapterModules: flag(modules, {
    value: '<module,…>',
    default: null,
    shownDefault: 'auto',
    description:
      'Modules that adapters may change; auto: up_proj and what those in the folder change',
  }),
  maxAdapterRank: setting(integer(1, 64), {
    value: '<rank>',
    default: '16',
    description: 'Largest total rank of the adapters on one request',
  }),
  adapterBase: setting(oneOf(['same', 'any']), {
    value: '<same|any>',
    default: 'same',
    description: 'same refuses adapters whose manifest names the digest of another base',
  }),
  adapterMemory: flag(parseSize, {
    value: '<size>',
    default: null,
    shownDefault: 'auto',
    description: 'Bound of the adapters kept in memory; least recently used ones leave',
  }),
  defaultAdapter: flag(adapterStrength, {
    value: '<id[:strength]>',
    default: null,
    description: 'Applied when a request names no adapter',
  }),
  requireAdapter: flag(requiredAdapter, {
    value: '<id[:min]>',
    default: null,
    description: 'Every request runs with it at least that strong; weaker ones get 403',
  }),
  ...safetyFlags,
  ...upstreamFlags,
  device: setting(oneOf(['cpu', 'webgpu', 'cuda']), {
    value: '<name>',
    default: 'cpu',
    description: 'Where the model runs: cpu, webgpu or cuda',
  }),
  onnxruntime: flag(text, {
    value: '<folder>',
    default: null,
    shownDefault: 'npm package',
    description: 'Folder of another ONNX Runtime library, such as one with CUDA',
  }),
  kernels: setting(oneOf(['auto', 'own', 'onnxruntime']), {
    value: '<name>',
    default: 'auto',
    description:
      'Whose operators compute on the CPU: own, onnxruntime, or auto: our own, faster ones where they were compiled',
  }),
  weights: setting(oneOf(['auto', 'fp32', 'fp16', 'int8', 'int4', 'stored']), {
    value: '<type>',
    default: 'auto',
    description:
      "fp32, fp16 (GPU), int8, int4, stored (a GGUF file's own numbers), or auto: fp16 on a GPU; else fp32 under 200 M parameters, above it stored where it can be, or int4",
  }),
  kvCacheDtype: setting(oneOf(['auto', 'fp32', 'fp16']), {
    value: '<type>',
    default: 'auto',
    description:
      'Of keys and values: fp32, fp16, or auto: fp16 with fp16, int8, int4 or stored weights where the kernels can; else fp32',
  }),
  weightBlock: flag(blockSize, {
    value: '<32|64|128>',
    default: null,
    shownDefault: 'auto',
    description: 'Weights that share a scale, for int8 and int4; fewer are more exact and slower',
  }),
  weightZeroPoints: flag(onOff, {
    value: '<on|off>',
    default: null,
    shownDefault: 'auto',
    description: 'Each block with a zero of its own, for int8 and int4; more exact and slower',
  }),
  maxBatch: setting(integer(1, 256), {
    value: '<n>',
    default: '8',
    description: 'Most sequences that run at once',
  }),
  maxContext: flag(integer(16, 1_048_576), {
    value: '<tokens>',
    default: null,
    shownDefault: "model's",
    description: 'Most tokens of prompt and answer together',
  }),
  kvMemory: flag(parseSize, {
    value: '<size>',
    default: null,
    shownDefault: 'auto',
    description:
      'Bound of the KV cache, prefixes included, such as 4GiB; auto: half of what is left',
  }),
  threads: flag(integer(1, 1024), {
    value: '<n>',
    default: null,
    shownDefault: 'one per core',
    description: 'Threads of the engine',
  }),
  cacheDir: setting(text, {
    value: '<folder>',
    default: join(cacheRoot, 'dutyfree'),
    shownDefault: '$XDG_CACHE_HOME/dutyfree or ~/.cache/dutyfree',
    description: 'Where built graphs are kept',
  }),
  host: setting(text, { value: '<address>', default: '127.0.0.1', description: 'Bound address' }),
  port: setting(integer(0, 65535), {
    value: '<n>',
    default: '8000',
    description: 'Bound port; 0 takes any free one',
  }),
  apiKey: flag(apiKeys, {
    value: '<key,…>',
    default: null,
    description: 'Bearer keys; with one set, everything but /health* needs it',
  }),
  apiKeyFile: flag(text, {
    value: '<file>',
    default: null,
    description: 'File of such keys, a line each; a flag is readable in the process list',
  }),
  ...adminFlags,
  clientHeader: flag(headerName, {
    value: '<header>',
    default: null,
    description:
      'Header whose last item names the client for fairness, such as x-forwarded-for; only behind a proxy that always sets it',
  }),
  corsOrigins: flag(origins, {
    value: '<origin,…>',
    default: null,
    description: 'Origins whose pages may call this server, or *',
  }),
  allowedHosts: flag(list, {
    value: '<host,…>',
    default: null,
    shownDefault: 'bound host and localhost',
    description: 'Host headers accepted, or *; any when bound to 0.0.0.0 or ::',
  }),
  maxQueue: setting(integer(0, 1_000_000), {
    value: '<n>',
    default: '256',
    description:
      'Prompts waiting beyond --max-batch, with 8 sequences and 16,384 tokens each on average; more get 429 with Retry-After',
  }),
  requestTimeout: setting(positiveDuration, {
    value: '<duration>',
    default: '600s',
    description: 'Deadline of one request; 504 beyond it',
  }),
  drainTimeout: setting(parseDuration, {
    value: '<duration>',
    default: '30s',
    description: 'What running requests get to finish after SIGTERM',
  }),
  maxBody: setting(parseSize, {
    value: '<size>',
    default: '2MB',
    description: 'Largest request body; 413 beyond it',
  }),
  reasoningField: setting(oneOf(reasoningFields), {
    value: '<name>',
    default: 'both',
    description: 'Reply field for the thought: both, reasoning, reasoning_content or none',
  }),
  logLevel: setting(oneOf(['debug', 'info', 'warn', 'error', 'silent']), {
    value: '<level>',
    default: 'info',
    description: 'debug, info, warn, error or silent; JSON lines on standard error',
  }),
})

export type Config = z.infer<typeof configSchema>

export interface Flag extends FlagText {
  readonly name: string
  readonly env: string
}

function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

/** Every flag with its texts, in the order of the schema. */
export const flags: readonly Flag[] = Object.entries(configSchema.shape).map(([key, schema]) => {
  const name = kebab(key)
  const env = `DUTYFREE_${name.toUpperCase().replaceAll('-', '_')}`
  return { ...flagTexts.get(schema)!, name, env }
})

export type ParsedCommand =
  | { readonly kind: 'serve'; readonly config: Config }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }

/** Flags win over variables, variables over defaults; an empty variable counts as unset. */
export function parseCommand(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedCommand {
  const given = readArguments(argv)
  if (given === 'help' || given === 'version') return { kind: given }
  const sources = new Map<string, { readonly text: string; readonly source: string }>()
  for (const { name, env: variable } of flags) {
    const value = given.get(name)
    if (value !== undefined) sources.set(name, { text: value, source: `--${name}` })
    else if (env[variable]) sources.set(name, { text: env[variable], source: variable })
  }
  const input = Object.fromEntries(
    Object.keys(configSchema.shape).map((key) => [key, sources.get(kebab(key))?.text]),
  )
  const result = configSchema.safeParse(input)
  if (result.success) {
    const config = checkUpstreamFlags(result.data, new Set(sources.keys()))
    return { kind: 'serve', config: checkAdminFlags(checkSafetyFlags(config)) }
  }
  const issue = result.error.issues[0]
  const name = kebab(String(issue?.path[0]))
  throw invalid(`${sources.get(name)?.source ?? `--${name}`} ${issue?.message}`)
}

/** Flag → its text; or what to print instead of serving, where an argument asks for that. */
function readArguments(argv: readonly string[]): ReadonlyMap<string, string> | 'help' | 'version' {
  const options = Object.fromEntries(flags.map(({ name }) => [name, { type: 'string' }] as const))
  // Not strict: unknown, doubled and empty flags get our own messages below.
  const { tokens } = parseArgs({ args: [...argv], options, strict: false, tokens: true })
  const given = new Map<string, string>()
  for (const token of tokens) {
    const argument = argv[token.index]!
    if (argument === '--help' || argument === '-h') return 'help'
    if (argument === '--version' || argument === '-v') return 'version'
    if (token.kind !== 'option' || !Object.hasOwn(options, token.name)) {
      throw invalid(`unknown flag ${JSON.stringify(argument.slice(0, 80))}; see --help`)
    }
    const { name, value, inlineValue } = token
    const before = given.get(name)
    if (before !== undefined && name !== 'upstream') {
      throw invalid(`--${name} is given twice; give it once`)
    }
    if (value === undefined || (!inlineValue && value.startsWith('--'))) {
      throw invalid(`--${name} needs a value; see --help`)
    }
    given.set(name, before === undefined ? value : `${before},${value}`)
  }
  return given
}

function invalid(message: string): ServerError {
  return new ServerError('invalid_config', message)
}

/** The keys of a file beside those of --api-key. An empty file is a mistake, not an open door. */
export function addKeys(config: Config, fileText: string): Config {
  try {
    const keys = apiKeys(fileText.trim().replaceAll(/\s*\n\s*/g, ','))
    return { ...config, apiKey: [...(config.apiKey ?? []), ...keys] }
  } catch (error) {
    throw invalid(`--api-key-file ${(error as Error).message}`)
  }
}

/**
 * The flags again, as the engine process wants them; relative paths start at `cwd`. `upstreamKey`:
 * what --upstream-key-file holds.
 */
export function engineOptions(
  config: Config,
  cwd: string,
  upstreamKey: string | null = null,
): EngineOptions {
  const model = resolve(cwd, config.model)
  return {
    model,
    servedModelName: config.servedModelName ?? modelNameOf(basename(model)),
    adapters: resolve(cwd, config.adapters),
    operatorsAdapters: operatorsAdapters(config),
    adapterModules: config.adapterModules ?? usualAdapterModules,
    scansAdapters: config.adapterModules === null,
    merged: [],
    guard: guardOption(config.guard),
    guardExact: config.guardExact,
    acceptsOtherBases: config.adapterBase === 'any',
    device: config.device,
    onnxruntime: config.onnxruntime === null ? null : resolve(cwd, config.onnxruntime),
    kernels: config.kernels,
    weights: config.weights,
    kvCacheDtype: config.kvCacheDtype,
    weightBlock: config.weightBlock,
    weightZeroPoints: config.weightZeroPoints,
    maxBatch: config.maxBatch,
    maxContext: config.maxContext,
    kvMemoryBytes: config.kvMemory,
    maxAdapterRank: config.maxAdapterRank,
    adapterMemoryBytes: config.adapterMemory,
    threads: config.threads,
    cacheDir: resolve(cwd, config.cacheDir),
    upstream: upstreamOptions(config, cwd, upstreamKey),
  }
}

/** As the flags name them; a required one without a minimum runs at its own strength. */
function operatorsAdapters(config: Config): AdapterRef[] {
  const { requireAdapter, defaultAdapter, escalateAdapter } = config
  const required = requireAdapter && { id: requireAdapter.id, scale: requireAdapter.minScale }
  return [required, defaultAdapter, escalateAdapter].filter((ref) => ref !== null)
}

function shownDefault(entry: Flag): string {
  return entry.shownDefault ?? entry.default ?? 'none'
}

/** What --help prints. */
export function renderHelp(): string {
  const rows = flags.map((entry) => [`  --${entry.name} ${entry.value}`, entry] as const)
  const width = Math.max(...rows.map(([left]) => left.length)) + 2
  return [
    'dutyfree: serves a reasoning model with safety adapters chosen per request.',
    '',
    'npm start -- [flags]      Each flag has an environment variable: --max-queue is DUTYFREE_MAX_QUEUE.',
    '',
    ...rows.map(
      ([left, entry]) => `${left.padEnd(width)}${entry.description} (${shownDefault(entry)})`,
    ),
    `${'  --help, --version'.padEnd(width)}Print this, or the version, and exit`,
    '',
  ].join('\n')
}

/** The flag table of docs/FLAGS.md; test/config.test.ts checks that they agree. */
export function renderFlagTable(): string {
  const cell = (value: string) => value.replaceAll('|', '\\|')
  return [
    '| flag | variable | default | meaning |',
    '| --- | --- | --- | --- |',
    ...flags.map(
      (entry) =>
        `| \`--${entry.name} ${cell(entry.value)}\` | \`${entry.env}\` | ${cell(shownDefault(entry))} | ${cell(entry.description)} |`,
    ),
  ].join('\n')
}
