// The composition root: flags → logger → metrics → engine → application → socket.
//   node dist/server/main.js [--flags]   (npm start builds first)

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { parseModelConfig } from './checkpoint/checkpoint-config.ts'
import { addKeys, type Config, engineOptions, parseCommand, renderHelp } from './config.ts'
import type { AdapterSummary } from './contracts/adapter.ts'
import type { EngineClient, EngineOptions } from './contracts/engine.ts'
import type { Logger } from './contracts/logger.ts'
import { isGgufPath } from './contracts/model-path.ts'
import { escapeLine } from './contracts/printable.ts'
import { createEngineClient } from './engine-client/client.ts'
import { createPendingEngine } from './engine-client/pending-engine.ts'
import { createReplaceableClient } from './engine-client/replaceable-client.ts'
import { ServerError } from './errors.ts'
import { fetchCheckpoint } from './hub/checkpoint.ts'
import { type HubId, parseHubId } from './hub/hub-id.ts'
import { type HubSettings, readHubSettings } from './hub/settings.ts'
import { createMetrics } from './metrics/registry.ts'
import { createProgress } from './progress.ts'
import { serve } from './serve.ts'

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

/** Keys of the flag, the variable and --api-key-file together. */
function withKeysOfFile(config: Config): Config {
  if (config.apiKeyFile === null) return config
  try {
    return addKeys(config, readFileSync(config.apiKeyFile, 'utf8'))
  } catch (error) {
    if (error instanceof ServerError) throw error
    const why = (error as NodeJS.ErrnoException).code
    throw new ServerError('invalid_config', `--api-key-file cannot be read (${why})`)
  }
}

async function main(): Promise<void> {
  const command = parseCommand(process.argv.slice(2), process.env)
  if (command.kind === 'help') return void process.stdout.write(renderHelp())
  if (command.kind === 'version') return void process.stdout.write(`${readVersion()}\n`)
  const config = withKeysOfFile(command.config)
  // The flag's text must not stay in the process list.
  if (process.argv.some((argument) => argument.startsWith('--api-key'))) process.title = 'dutyfree'
  const options = engineOptions(config, process.cwd())
  const id = findHubId(options.model, config.model)
  const settings = id && readHubSettings(process.env)

  const log = pino.destination(2)
  const write = (line: string) => log.write(escapeLine(line))
  const logger: Logger = pino({ level: config.logLevel, base: null }, { write })
  const metrics = createMetrics()
  const now = () => performance.now()
  const onProgress = createProgress({ terminal: process.stderr, logger, now })
  function start(options: EngineOptions): EngineClient {
    return createReplaceableClient({
      options,
      create: (options, observer) => createEngineClient({ options, observer, logger, onProgress }),
      observer: metrics,
      logger,
      availableBytes: () => process.availableMemory(),
    })
  }
  /** The port is open while a checkpoint comes from the hub. */
  function startPending(id: HubId, settings: HubSettings): EngineClient {
    return createPendingEngine({
      observer: metrics,
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
  const engine = id && settings ? startPending(id, settings) : start(options)
  await serve({
    config,
    engine,
    metrics,
    logger,
    version: readVersion(),
    onReady: () => checkOperatorsAdapters(config, engine),
  })
}

const askAgainMs = 200

/** The operator's own adapters (--require-adapter, --default-adapter) must exist before the first request. */
async function checkOperatorsAdapters(config: Config, engine: EngineClient): Promise<void> {
  const wanted = {
    'require-adapter': config.requireAdapter,
    'default-adapter': config.defaultAdapter,
  }
  const ids = Object.values(wanted).flatMap((ref) => (ref === null ? [] : [ref.id]))
  const adapters = ids.length === 0 ? [] : await listAdapters(engine, ids)
  for (const [flag, ref] of Object.entries(wanted)) {
    const found = adapters.find(({ id }) => id === ref?.id)
    if (ref === null || (found !== undefined && found.error === null)) continue
    const why = found?.error?.message ?? 'there is no such folder'
    throw new ServerError('invalid_config', `--${flag} "${ref.id}" cannot be used: ${why}`)
  }
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
