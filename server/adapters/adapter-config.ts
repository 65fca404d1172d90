// adapter_config.json of a PEFT LoRA folder: which scaling it asks for, and a refusal by name of
// every PEFT feature that this server does not apply. Tensors, not this file, say which modules
// are adapted.

import { z } from 'zod'
import { findDuplicateKey } from '../checkpoint/safetensors-header.ts'
import type { AdapterKind } from '../contracts/adapter.ts'
import { ServerError } from '../errors.ts'
import type { AdapterTargets } from './adapter-gaps.ts'

export interface AdapterConfig {
  readonly targetModules: readonly string[] | null
  readonly targets: AdapterTargets
  /** Rank and scaling of a module ("model.layers.3.mlp.up_proj") once patterns are applied. */
  rankOf(module: string): number
  scalingOf(module: string): number
  /** Largest rank that the config names. */
  readonly maxRank: number
  /** Tokens from which on it acts, as only a guard has them; null: none are named. */
  readonly invocationTokens: readonly number[] | null
  /** Sorted keys, no white space: what the digest covers. */
  readonly canonicalJson: string
}

const maxNestingDepth = 32

const pattern = <T extends z.ZodType>(value: T) => z.record(z.string(), value).nullish()
const rank = z.int().positive()
/** PEFT's activated LoRA. What runs before it is the base's, so that a guard may read its cache. */
const invocationKey = 'alora_invocation_tokens'
const names = z.union([z.array(z.string()), z.string()]).nullish()
const schema = z.looseObject({
  peft_type: z.string(),
  r: rank,
  lora_alpha: z.number(),
  target_modules: names,
  exclude_modules: names,
  layers_to_transform: z.union([z.array(z.int()), z.int()]).nullish(),
  use_rslora: z.boolean().nullish(),
  rank_pattern: pattern(rank),
  alpha_pattern: pattern(z.number()),
  bias: z.string().nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
})
const invocationSchema = z.array(z.int()).max(8).nullish()

/** Read above, or without effect on what a trained adapter computes. */
const harmlessKeys = new Set([
  ...Object.keys(schema.shape),
  'auto_mapping',
  'base_model_name_or_path',
  'corda_config',
  'ensure_weight_tying',
  'eva_config',
  'inference_mode',
  'layers_pattern',
  'lora_dropout',
  'lora_ga_config',
  'megatron_config',
  'megatron_core',
  'peft_version',
  'qalora_group_size',
  'revision',
  'runtime_config',
  'task_type',
])

// Other initialisations (pissa, olora, corda, loftq, lora_ga, …) change the base's own weights.
const harmlessInits = new Set<unknown>([true, false, 'default', 'gaussian', 'eva', 'orthogonal'])

export function parseAdapterConfig(text: string, kind: AdapterKind = 'adapter'): AdapterConfig {
  const json = parseObject(text)
  const canonicalJson = canonicalize(json)
  const result = schema.safeParse(json)
  // A config of another kind may lack LoRA's fields: name the kind, not the fields.
  if (typeof json.peft_type === 'string' && json.peft_type !== 'LORA') {
    unsupported('peft_type', `"${short(json.peft_type)}"; LORA is supported`)
  }
  if (!result.success) {
    const issue = result.error.issues[0]!
    return invalid(`${short(issue.path.join('.')) || 'the file'}: ${issue.message}`)
  }
  const config = result.data
  refuseUnsupported(config, json, kind)

  const ranks = readPattern(config.rank_pattern, 'rank_pattern')
  const alphas = readPattern(config.alpha_pattern, 'alpha_pattern')
  function rankOf(module: string): number {
    return findMatch(ranks, module) ?? config.r
  }
  return {
    targetModules: Array.isArray(config.target_modules) ? config.target_modules : null,
    targets: {
      modules: config.target_modules ?? null,
      excluded: isSet(config.exclude_modules) ? config.exclude_modules! : null,
      layers: config.layers_to_transform == null ? null : [config.layers_to_transform].flat(),
    },
    rankOf,
    scalingOf: (module) => {
      const alpha = findMatch(alphas, module) ?? config.lora_alpha
      const r = rankOf(module)
      return alpha / (config.use_rslora ? Math.sqrt(r) : r)
    },
    maxRank: Math.max(config.r, ...ranks.map(([, value]) => value)),
    invocationTokens: kind === 'guard' ? readInvocation(json) : null,
    canonicalJson,
  }
}

function refuseUnsupported(
  config: z.infer<typeof schema>,
  json: Readonly<Record<string, unknown>>,
  kind: AdapterKind,
): void {
  if (config.bias && config.bias !== 'none') unsupported('bias', `"${short(config.bias)}"`)
  const init = config.init_lora_weights ?? true
  if (!harmlessInits.has(init)) {
    unsupported(
      'init_lora_weights',
      `"${short(String(init))}", which changes the base's weights in training`,
    )
  }
  for (const [key, value] of Object.entries(json)) {
    if (kind === 'guard' && key === invocationKey) continue
    if (!harmlessKeys.has(key) && isSet(value)) unsupported(short(key), 'set')
  }
}

function readInvocation(json: Readonly<Record<string, unknown>>): readonly number[] | null {
  const { success, data } = invocationSchema.safeParse(json[invocationKey])
  return success ? (data ?? null) : invalid(`${invocationKey} must be a list of a few tokens`)
}

/** PEFT leaves what is not used null, false or empty. */
function isSet(value: unknown): boolean {
  if (!value) return false
  return typeof value !== 'object' || Object.keys(value).length > 0
}

type Pattern = readonly (readonly [key: string, value: number])[]

/** PEFT takes regular expressions here; names and endings of names are what is used and safe. */
function readPattern(value: Record<string, number> | null | undefined, field: string): Pattern {
  const entries = Object.entries(value ?? {})
  const odd = entries.find(([key]) => !/^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$/.test(key))
  if (odd)
    unsupported(field, `keyed by a pattern (${short(odd[0])}); use a module's name or ending`)
  return entries
}

function findMatch(entries: Pattern, module: string): number | undefined {
  return entries.find(([key]) => module === key || module.endsWith(`.${key}`))?.[1]
}

function parseObject(text: string): Record<string, unknown> {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return invalid('it is not JSON')
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    return invalid('it is not a JSON object')
  }
  const repeated = findDuplicateKey(text)
  if (repeated !== null) invalid(`it has the key ${JSON.stringify(short(repeated))} twice`)
  return json as Record<string, unknown>
}

function canonicalize(value: unknown, depth = 0): string {
  if (depth > maxNestingDepth) invalid(`it is nested deeper than ${maxNestingDepth} levels`)
  if (Array.isArray(value)) return `[${value.map((item) => canonicalize(item, depth + 1)).join()}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const fields = Object.entries(value)
    .sort(([x], [y]) => (x < y ? -1 : 1))
    .map(([key, item]) => `${JSON.stringify(key)}:${canonicalize(item, depth + 1)}`)
  return `{${fields.join()}}`
}

function short(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

function invalid(message: string): never {
  throw new ServerError('invalid_adapter', `adapter_config.json: ${message}.`)
}

function unsupported(field: string, clause: string): never {
  throw new ServerError(
    'unsupported_adapter',
    `adapter_config.json: ${field} is ${clause}; this server does not support that.`,
  )
}
