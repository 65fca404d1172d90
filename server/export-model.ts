// npm run export-model: a GGUF file becomes a folder that transformers and PEFT load.
//   node dist/server/export-model.js --model file.gguf --output folder [--dtype float32]

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { isGgufPath } from './contracts/model-path.ts'
import { escapeLine } from './contracts/printable.ts'
import { ServerError } from './errors.ts'
import { exportFolder } from './export/export-folder.ts'
import { type ExportType, exportTypes } from './export/float-types.ts'
import { createProgress } from './progress.ts'

const usage = `npm run export-model -- --model <file.gguf> --output <folder> [--dtype <type>]

  --model <file>     GGUF file; the first of a split one
  --output <folder>  folder to make: safetensors, config.json, tokenizer.json, …
  --dtype <type>     ${exportTypes.join(', ')} (float32: exactly the file's numbers)
`

interface Command {
  readonly model: string
  readonly output: string
  readonly type: ExportType
}

/** Null: print the usage. */
function readCommand(args: readonly string[]): Command | null {
  const { help, model, output, dtype } = readFlags(args)
  if (help) return null
  if (model === undefined || output === undefined) {
    throw new ServerError('invalid_config', '--model and --output are needed; see --help')
  }
  const type = exportTypes.find((name) => name === dtype)
  if (type === undefined) {
    throw new ServerError(
      'invalid_config',
      `--dtype must be one of ${exportTypes.join(', ')}; got ${JSON.stringify(dtype)}`,
    )
  }
  if (!isGgufPath(model) || !existsSync(model)) {
    throw new ServerError(
      'invalid_config',
      `--model must be a GGUF file that exists; got ${JSON.stringify(model)}`,
    )
  }
  return { model: resolve(model), output: resolve(output), type }
}

function readFlags(args: readonly string[]) {
  const text = { type: 'string' } as const
  try {
    const options = {
      model: text,
      output: text,
      dtype: { ...text, default: 'float32' },
      help: { type: 'boolean', short: 'h', default: false },
    } as const
    return parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new ServerError('invalid_config', `${(error as Error).message}; see --help`)
  }
}

async function main(): Promise<void> {
  const command = readCommand(process.argv.slice(2))
  if (command === null) return void process.stdout.write(usage)
  const logger = pino({ base: null }, pino.destination(2))
  const onProgress = createProgress({
    terminal: process.stderr,
    logger,
    now: () => performance.now(),
  })
  const note = await exportFolder({ ...command, onProgress })
  process.stdout.write(`${JSON.stringify({ output: command.output, ...note })}\n`)
}

main().catch((error: unknown) => {
  const line = error instanceof ServerError ? error.message : (error as Error).stack
  process.stderr.write(`dutyfree: ${escapeLine(line ?? '')}\n`)
  process.exitCode = 1
})
