// Known but unsupported fields of other servers' APIs. A field that would change the answer is a 400,
// unless it is null or holds the value that changes nothing. Notes and hints are accepted. An unknown
// field is accepted too, and its name is logged.

import { type ErrorCode, ServerError } from '../../errors.ts'
import { quote } from './quote.ts'

type ChangesNothing = (value: unknown) => boolean

function never(): boolean {
  return false
}

function is(...values: readonly unknown[]): ChangesNothing {
  return function isOneOf(value) {
    return values.includes(value)
  }
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}

function isPlainText(value: unknown): boolean {
  return (
    typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'text'
  )
}

const unsupported: Readonly<Record<string, ChangesNothing>> = {
  // Tools
  tools: isEmpty,
  tool_choice: is('none', 'auto'),
  parallel_tool_calls: is(true, false),
  functions: isEmpty,
  function_call: is('none', 'auto'),
  web_search_options: never,
  // Constrained decoding
  response_format: isPlainText,
  structured_outputs: isEmpty,
  guided_json: never,
  guided_regex: never,
  guided_choice: never,
  guided_grammar: never,
  guided_decoding_backend: never,
  guided_whitespace_pattern: never,
  json_schema: never,
  grammar: never,
  regex: never,
  ebnf: never,
  structural_tag: never,
  // The prompt's making
  chat_template: never,
  mm_processor_kwargs: isEmpty,
  documents: isEmpty,
  truncate_prompt_tokens: never,
  prompt_embeds: never,
  suffix: is(''),
  prediction: never,
  // Media
  audio: never,
  modalities: (value) => Array.isArray(value) && value.every((kind) => kind === 'text'),
  // Sampling
  best_of: is(1),
  use_beam_search: is(false),
  length_penalty: is(1),
  bad_words: isEmpty,
  allowed_token_ids: never,
  logits_processors: isEmpty,
  thinking_token_budget: never,
  skip_special_tokens: is(true),
  spaces_between_special_tokens: is(true),
  detokenize: is(true),
  return_token_ids: is(false),
  return_tokens_as_token_ids: is(false),
  // Promises that this version cannot keep
  store: is(false),
  priority: is(0),
  cache_salt: never,
  moderation: never,
  kv_transfer_params: isEmpty,
  vllm_xargs: isEmpty,
}

const ignored: ReadonlySet<string> = new Set([
  'user',
  'safety_identifier',
  'metadata',
  'service_tier',
  'prompt_cache_key',
  'prompt_cache_retention',
  'request_id',
  'verbosity',
])

/** The field, where it would have worked; other fields say unsupported_parameter. */
const codes: Readonly<Record<string, ErrorCode>> = { best_of: 'unsupported_value' }

/** Throws at the first field that asks for something this server does not do. */
export function rejectUnsupported(body: Readonly<Record<string, unknown>>): void {
  for (const [field, value] of Object.entries(body)) {
    const changesNothing = Object.hasOwn(unsupported, field) ? unsupported[field] : undefined
    if (changesNothing === undefined || value === null || changesNothing(value)) continue
    throw new ServerError(
      codes[field] ?? 'unsupported_parameter',
      `${field} is not supported by this server; got ${quote(value)}; leave it out`,
      { param: field },
    )
  }
}

/** Names of unknown fields for the log, bounded in number and length. */
export function unknownFields(
  body: Readonly<Record<string, unknown>>,
  known: Readonly<Record<string, unknown>>,
): readonly string[] {
  return Object.keys(body)
    .filter(
      (field) =>
        !Object.hasOwn(known, field) && !Object.hasOwn(unsupported, field) && !ignored.has(field),
    )
    .slice(0, 16)
    .map((field) => field.slice(0, 64))
}
