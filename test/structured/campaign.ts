// Random schemas asked of a server, several at a time: each answer that ends by itself has to validate.

import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { randomSchemas } from '../support/random-schemas.ts'

export interface CampaignOptions {
  /** Of the server, with /v1. */
  readonly url: string
  readonly model: string
  /** Of the schemas. */
  readonly seed: number
  readonly count: number
  /** Of the first answer; each has one of its own. The schemas' unless said. */
  readonly samplingSeed?: number
  readonly prompt?: string
  readonly maxTokens: number
  /** Requests at a time. */
  readonly width: number
  /** Whether the schema of this number is asked for; all are, where it is not said. */
  readonly isAsked?: (index: number) => boolean
  readonly onAnswer?: (answer: Answer) => void
}

/** What is read of an answer, or of an error. */
export interface CompletionReply {
  readonly choices: readonly { readonly text: string; readonly finish_reason: string }[]
  readonly usage: { readonly completion_tokens: number }
  readonly error: { readonly message: string; readonly param: string | null }
}

/** What became of one schema. */
export interface Answer {
  /** The schema's number among those of the seed. */
  readonly index: number
  /** cut: by max_tokens. */
  readonly kind: 'valid' | 'cut' | 'invalid'
  readonly schema: string
  readonly text: string
  /** Why it is invalid; else "". */
  readonly why: string
  readonly numTokens: number
}

/** Answers in the order in which they came. */
export async function runCampaign(options: CampaignOptions): Promise<Answer[]> {
  const { seed, count, width, isAsked = () => true, onAnswer } = options
  const answers: Answer[] = []
  const left = randomSchemas(seed, count).entries()

  async function work(): Promise<void> {
    for (const [index, schema] of left) {
      if (!isAsked(index)) continue
      const answer = await ask(options, index, schema)
      answers.push(answer)
      onAnswer?.(answer)
    }
  }

  await Promise.all(Array.from({ length: width }, work))
  return answers
}

export function countOf(answers: readonly Answer[], kind: Answer['kind']): number {
  return answers.filter((answer) => answer.kind === kind).length
}

async function ask(
  {
    url,
    model,
    maxTokens,
    seed,
    samplingSeed = seed,
    prompt = 'Give me some JSON: ',
  }: CampaignOptions,
  index: number,
  schema: string,
): Promise<Answer> {
  const json_schema = { name: 'answer', schema: JSON.parse(schema) }
  const response = await fetch(`${url}/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ model, prompt, max_tokens: maxTokens, temperature: 1, seed: samplingSeed + index },
      response_format: { type: 'json_schema', json_schema },
      // On a busy machine a whole answer may take longer than fetch waits for its head.
      ...{ stream: true, stream_options: { include_usage: true } },
    }),
  })
  if (!response.ok) {
    const { error } = (await response.json()) as CompletionReply
    return { index, kind: 'invalid', schema, text: '', why: error.message, numTokens: 0 }
  }
  const { text, reason, numTokens } = readChunks(await response.text())
  if (reason === 'length') return { index, kind: 'cut', schema, text, why: '', numTokens }
  const why = findFault(schema, text)
  return {
    index,
    kind: why === null ? 'valid' : 'invalid',
    schema,
    text,
    why: why ?? '',
    numTokens,
  }
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
