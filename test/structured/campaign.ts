// Random schemas asked of a server, several at a time: each answer that ends by itself has to validate.

import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { randomSchemas } from '../support/random-schemas.ts'

export interface CampaignOptions {
  /** Of the server, with /v1. */
  readonly url: string
  readonly model: string
  readonly seed: number
  readonly count: number
  readonly maxTokens: number
  /** Requests at a time. */
  readonly width: number
  readonly onAnswer?: (done: number, so: Outcome) => void
}

/** What is read of an answer, or of an error. */
export interface CompletionReply {
  readonly choices: readonly { readonly text: string; readonly finish_reason: string }[]
  readonly usage: { readonly completion_tokens: number }
  readonly error: { readonly message: string; readonly param: string | null }
}

interface Invalid {
  readonly schema: string
  readonly text: string
  readonly why: string
}

export interface Outcome {
  numValid: number
  /** Answers that max_tokens has cut. */
  numCut: number
  numTokens: number
  readonly invalid: Invalid[]
}

export async function runCampaign(options: CampaignOptions): Promise<Outcome> {
  const { seed, count, width, onAnswer } = options
  const outcome: Outcome = { numValid: 0, numCut: 0, numTokens: 0, invalid: [] }
  const left = randomSchemas(seed, count).entries()
  let done = 0

  async function work(): Promise<void> {
    for (const [i, schema] of left) {
      await ask(options, schema, seed + i, outcome)
      onAnswer?.(++done, outcome)
    }
  }

  await Promise.all(Array.from({ length: width }, work))
  return outcome
}

async function ask(
  { url, model, maxTokens }: CampaignOptions,
  schema: string,
  seed: number,
  outcome: Outcome,
): Promise<void> {
  const json_schema = { name: 'answer', schema: JSON.parse(schema) }
  const response = await fetch(`${url}/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ model, seed, prompt: 'Give me some JSON: ', max_tokens: maxTokens, temperature: 1 },
      response_format: { type: 'json_schema', json_schema },
      // On a busy machine a whole answer may take longer than fetch waits for its head.
      ...{ stream: true, stream_options: { include_usage: true } },
    }),
  })
  if (!response.ok) {
    const { error } = (await response.json()) as CompletionReply
    outcome.invalid.push({ schema, text: '', why: error.message })
    return
  }
  const { text, reason, numTokens } = readChunks(await response.text())
  outcome.numTokens += numTokens
  if (reason === 'length') {
    outcome.numCut++
    return
  }
  const why = findFault(schema, text)
  if (why === null) outcome.numValid++
  else outcome.invalid.push({ schema, text, why })
}

type Chunk = Pick<CompletionReply, 'choices'> & Partial<CompletionReply>

/** The answer of a stream; one that ended with an error has no reason. */
function readChunks(events: string) {
  const lines = events.split('\n').filter((line) => line.startsWith('data: {'))
  const chunks = lines.map((line) => JSON.parse(line.slice('data: '.length)) as Chunk)
  const choices = chunks.flatMap((chunk) => chunk.choices ?? [])
  return {
    text: choices.map((choice) => choice.text).join(''),
    reason: choices.at(-1)?.finish_reason ?? null,
    numTokens: chunks.at(-1)?.usage?.completion_tokens ?? 0,
  }
}

/** Null: it validates. */
export function findFault(schema: string, text: string): string | null {
  const ajv = new Ajv2020({ strict: false })
  formats.default(ajv)
  try {
    const validate = ajv.compile(JSON.parse(schema))
    return validate(JSON.parse(text)) ? null : ajv.errorsText(validate.errors)
  } catch (error) {
    return String(error)
  }
}
