// The composition root: flags → logger → metrics → engine → application → socket.
//   node dist/server/main.js [--flags]   (npm start builds first)

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { parseModelConfig } from './checkpoint/checkpoint-config.ts'
import {
  addKeys,
  type Config,
  checkAdminKey,
  checkKeyFloors,
  engineOptions,
  parseCommand,
  renderHelp,
} from './config.ts'
import type { AdapterSummary } from './contracts/adapter.ts'
import type { EngineClient, EngineOptions, ModelInfo } from './contracts/engine.ts'
import type { Logger } from './contracts/logger.ts'
import { isGgufPath } from './contracts/model-path.ts'
import { escapeLine } from './contracts/printable.ts'
import { createEngineClient } from './engine-client/client.ts'
import { createPendingEngine } from './engine-client/pending-engine.ts'
import { createReplaceableClient } from './engine-client/replaceable-client.ts'
import { ServerError } from './errors.ts'
import { createGuardServer } from './external-guard/guard-server.ts'
import { createJudgingClient } from './external-guard/judging-client.ts'
import { createAdapterFetcher } from './hub/adapter.ts'
import { fetchCheckpoint } from './hub/checkpoint.ts'
import { type HubId, parseHubId } from './hub/hub-id.ts'
import { type HubSettings, readHubSettings } from './hub/settings.ts'
import type { Key } from './keys/key.ts'
import { createKeysFile } from './keys/keys-file.ts'
import { createMetrics } from './metrics/registry.ts'
import { createProgress } from './progress.ts'
import { serve } from './serve.ts'
import { openTelemetry } from './telemetry/telemetry.ts'

/** package.json is above server/ and above dist/server/. */
function readVersion(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version
}

/** Null for a folder or a file. What exists wins over what might be on a hub. */
function findHubId(folder: string, given: string): HubId | null {
  if (existsSync(join(folder, 'config.json'))) return null
  if (isGgufPath(folder) && existsSync(folder)) return null
  const id = existsSync(folder) ? null : parseHubId(given)
  if (id !== null) return id
  throw new ServerError(
    'invalid_config',
    `--model must be a checkpoint folder with a config.json, a GGUF file, or org/name[@revision][:quant] on a hub; got ${JSON.stringify(given)}${ggufHint(folder)}`,
  )
}

/** What to name instead of a folder that holds GGUF files. */
function ggufHint(folder: string): string {
  const isFolder = statSync(folder, { throwIfNoEntry: false })?.isDirectory() ?? false
  const file = isFolder ? readdirSync(folder).sort().find(isGgufPath) : undefined
  return file === undefined ? '' : `; it holds ${JSON.stringify(file)}: give the file itself`
}

/** The one key of a file; null: there is no such flag. */
function readKey(flag: 'guard-key-file' | 'upstream-key-file', path: string | null): string | null {
  if (path === null) return null
  const key = readFlagFile(flag, path).trim()
  if (/^[\x21-\x7e]{1,4096}$/.test(key)) return key
  throw new ServerError(
    'invalid_config',
    `--${flag} must hold one key of printable ASCII characters without spaces`,
  )
}

function readFlagFile(flag: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code
    throw new ServerError('invalid_config', `--${flag} cannot be read (${why})`)
  }
}

/** Keys of the flag, the variable and --api-key-file together. */
function withKeysOfFile(config: Config): Config {
  if (config.apiKeyFile === null) return config
  return addKeys(config, readFlagFile('api-key-file', config.apiKeyFile))
}

/** null: there is no such flag. Throws where the file cannot be used at the start. */
function openKeysFile(config: Config, logger: Logger): (() => readonly Key[]) | null {
  const { keysFile } = config
  if (keysFile === null) return null
  const keys = createKeysFile({
    path: keysFile,
    check: (read) => checkKeyFloors(config, read),
    monotonicMs: () => performance.now(),
    onChange: (numKeys) => logger.info({ numKeys }, 'keys changed'),
    onBroken: (why) => logger.error({ why }, 'the keys of before stay in use'),
  })
  const isOfFile = keys().some(({ roles }) => roles.includes('admin'))
  checkAdminKey(config, config.adminKey !== null || isOfFile)
  return keys
}

async function main(): Promise<void> {
  const command = parseCommand(process.argv.slice(2), process.env)
  if (command.kind === 'help') return void process.stdout.write(renderHelp())
  if (command.kind === 'version') return void process.stdout.write(`${readVersion()}\n`)
  const config = withKeysOfFile(command.config)
  // The flag's text must not stay in the process list.
  if (process.argv.some((argument) => /^--(api|admin)-key/.test(argument)))
    process.title = 'dutyfree'
  const options = engineOptions(
    config,
    process.cwd(),
    readKey('upstream-key-file', config.upstreamKeyFile),
  )
  const id = findHubId(options.model, config.model)
  const settings = id && readHubSettings(process.env)

  const log = pino.destination(2)
  const write = (line: string) => log.write(escapeLine(line))
  const logger: Logger = pino({ level: config.logLevel, base: null }, { write })
  const keysOfFile = openKeysFile(config, logger)
  const metrics = createMetrics()
  const version = readVersion()
  const telemetry = await openTelemetry(process.env, { version, logger })
  const observer = telemetry?.alongside(metrics) ?? metrics
  const now = () => performance.now()
  const onProgress = createProgress({ terminal: process.stderr, logger, now })
  function start(options: EngineOptions): EngineClient {
    return createReplaceableClient({
      options,
      create(options, observer, onMore) {
        function tell(what: string, done: number, total: number): void {
          onProgress(what, done, total)
          onMore(what, done, total)
        }
        return createEngineClient({ options, observer, logger, onProgress: tell })
      },
      observer,
      logger,
      availableBytes: () => process.availableMemory(),
    })
  }
  /** The port is open while a checkpoint comes from the hub. */
  function startPending(id: HubId, settings: HubSettings): EngineClient {
    return createPendingEngine({
      observer,
      async create(signal) {
        const model = await fetchCheckpoint({
          id,
          settings,
          logger,
          signal,
          checkConfig: parseModelConfig,
          onProgress,
        })
        return start({ ...options, model, servedModelName: config.servedModelName ?? id.repo })
      },
    })
  }
  const guardKey = readKey('guard-key-file', config.guardKeyFile)
  /** A guard behind an address judges around the engine. */
  function judged(engine: EngineClient): EngineClient {
    const { guard, guardModel: model, guardTimeout: timeoutMs } = config
    if (guard.kind !== 'url' || model === null) return engine
    const { url } = guard
    const server = createGuardServer({
      url,
      model,
      key: guardKey,
      timeoutMs,
      observer,
      logger,
      now,
    })
    return createJudgingClient({ engine, server, model, now })
  }
  const engine = judged(id && settings ? startPending(id, settings) : start(options))
  await serve({
    config: { ...config, keysOfFile },
    engine,
    metrics,
    observer,
    logger,
    version,
    fetchAdapter: config.hubAdapters
      ? createAdapterFetcher({ settings: readHubSettings(process.env), logger })
      : null,
    async onReady(model) {
      checkGuard(config, keysOfFile?.() ?? [], model)
      await checkOperatorsAdapters(config, keysOfFile?.() ?? [], engine)
      await mergeFirst(config, engine)
    },
  })
  await telemetry?.close()
}

const askAgainMs = 200

/** Minima of the flags and of keys need somebody who judges. */
function checkGuard({ safety }: Config, keys: readonly Key[], { guard }: ModelInfo): void {
  if (guard !== null) return
  const why = 'needs a guard, and there is none: no folder of --adapters is one for this base'
  if (judges(safety))
    throw new ServerError('invalid_config', `--safety ${safety} ${why}; see --guard`)
  const key = keys.find(({ floor }) => judges(floor.safety))
  if (key === undefined) return
  const what = `--keys-file: safety ${key.floor.safety} of "${key.name}"`
  throw new ServerError('invalid_config', `${what} ${why}; see --guard`)
}

function judges(mode: Config['safety']): boolean {
  return mode !== null && mode !== 'off'
}

/** The operator's own adapters (--require-adapter, …) must exist before the first request. */
async function checkOperatorsAdapters(
  config: Config,
  keys: readonly Key[],
  engine: EngineClient,
): Promise<void> {
  const wanted = [
    ['--require-adapter', config.requireAdapter],
    ['--default-adapter', config.defaultAdapter],
    ['--escalate-adapter', config.escalateAdapter],
    ...keys.map(({ name, floor }) => [`--keys-file: "${name}":`, floor.requireAdapter] as const),
  ] as const
  const named = wanted.flatMap(([from, ref]) => (ref === null ? [] : [{ from, id: ref.id }]))
  const ids = [...new Set(named.map(({ id }) => id))]
  const adapters = ids.length === 0 ? [] : await listAdapters(engine, ids)
  for (const { from, id } of named) {
    const found = adapters.find((adapter) => adapter.id === id)
    if (found?.error === null && found.kind === 'adapter') continue
    const noAdapter = found === undefined ? 'there is no such folder' : 'it is a guard'
    const why = found?.error?.message ?? noAdapter
    throw new ServerError('invalid_config', `${from} "${id}" cannot be used: ${why}`)
  }
}

/** Of --merge. Nobody is served meanwhile, so there is no need of memory for two engines. */
async function mergeFirst({ merge }: Config, engine: EngineClient): Promise<void> {
  if (merge === null) return
  await engine.changeMerge({ kind: 'merge', ...merge, drains: true }).catch((error) => {
    if (!(error instanceof ServerError)) throw error
    throw new ServerError(
      'invalid_config',
      `--merge "${merge.id}" cannot be used: ${error.message}`,
    )
  })
}

/** An engine that ends meanwhile is started again, and asked again. */
async function listAdapters(
  engine: EngineClient,
  ids: readonly string[],
): Promise<readonly AdapterSummary[]> {
  for (;;) {
    try {
      return await engine.listAdapters({ ids })
    } catch (error) {
      const code = error instanceof ServerError ? error.code : null
      if (code !== 'engine_crashed' && code !== 'model_loading') throw error
      await sleep(askAgainMs)
    }
  }
}

function exit(): void {
  // Nothing that an engine left open may hold the process up.
  process.exit(0)
}

main().then(exit, (error: unknown) => {
  // One line for what an operator can act on; the stack only for what is our bug.
  const line = error instanceof ServerError ? error.message : (error as Error).stack
  process.stderr.write(`dutyfree: ${escapeLine(line ?? '')}\n`)
  process.exit(1)
})
