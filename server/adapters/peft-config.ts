// PEFT's adapter_config.json: which keys there may be, which of them ask for something that is not
// served, and the scaling they define. Ranks and modules come from the tensors, never from here.

import { z } from 'zod'
import { ServerError } from '../errors.ts'

/** Keys that say nothing about the result of a LoRA at inference. */
const harmlessKeys = new Set([
  'alora_invocation_tokens_string',
  'auto_mapping',
  'base_model_name_or_path',
  'ensure_weight_tying',
  'eva_config',
  'exclude_modules',
  'inference_mode',
  'layers_pattern',
  'layers_to_transform',
  'lora_dropout',
  'megatron_config',
  'megatron_core',
  'peft_version',
  'qalora_group_size',
  'revision',
  'runtime_config',
  'target_modules',
  'task_type',
])

const positive = z.number().positive().finite()
const patternSchema = z.record(z.string(), positive)

const configSchema = z.looseObject({
  peft_type: z.string(),
  r: z.int().positive(),
  lora_alpha: positive,
  use_rslora: z.boolean().nullish(),
  rank_pattern: patternSchema.nullish(),
  alpha_pattern: patternSchema.nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
  bias: z.string().nullish(),
})
const readKeys = new Set(Object.keys(configSchema.shape))

// These start from changed base weights: on the original base the adapter would be wrong.
const baseChangingInits = /^(pissa|olora|corda|loftq|lora_ga)/

export interface PeftConfig {
  /** Declared rank of a module, "model.layers.3.mlp.up_proj". */
  rankOf(module: string): number
  /** alpha / r, or alpha / sqrt(r) with rank-stabilised LoRA; r is the tensors' rank. */
  scalingOf(module: string, rank: number): number
}

/** Throws ServerError invalid_adapter or unsupported_adapter. */
export function parsePeftConfig(json: unknown): PeftConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ServerError('invalid_adapter', 'adapter_config.json must hold a JSON object.')
  }
  const type = (json as { peft_type?: unknown }).peft_type
  if (typeof type === 'string' && type !== 'LORA') refuse('peft_type', type, 'only LORA is served')
  const parsed = configSchema.safeParse(json)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new ServerError(
      'invalid_adapter',
      `adapter_config.json: ${issue?.path.join('.') || 'the object'}: ${issue?.message}.`,
    )
  }
  const config = parsed.data
  refuseUnsupported(config)
  const { rank_pattern: ranks, alpha_pattern: alphas, use_rslora: isRankStabilised } = config
  checkPattern('rank_pattern', ranks)
  checkPattern('alpha_pattern', alphas)
  return {
    rankOf: (module) => lookUp(ranks, module) ?? config.r,
    scalingOf: (module, rank) => {
      const alpha = lookUp(alphas, module) ?? config.lora_alpha
      return isRankStabilised ? alpha / Math.sqrt(rank) : alpha / rank
    },
  }
}

function refuseUnsupported(config: z.infer<typeof configSchema>): void {
  if (config.bias !== undefined && config.bias !== null && config.bias !== 'none') {
    refuse('bias', config.bias, 'only "none" is served')
  }
  const init = config.init_lora_weights
  if (typeof init === 'string' && baseChangingInits.test(init)) {
    refuse('init_lora_weights', init, 'it changes the base weights; convert the adapter first')
  }
  for (const [key, value] of Object.entries(config)) {
    if (readKeys.has(key) || harmlessKeys.has(key) || isEmpty(value)) continue
    refuse(key, value, 'this PEFT feature is not served')
  }
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined || value === false || value === '') return true
  return typeof value === 'object' && Object.keys(value).length === 0
}

function refuse(key: string, value: unknown, why: string): never {
  const shown = JSON.stringify(value)?.slice(0, 80)
  throw new ServerError('unsupported_adapter', `adapter_config.json: ${key} is ${shown}: ${why}.`)
}

/** PEFT takes pattern keys as regular expressions; running a stranger's is asking for trouble. */
function checkPattern(key: string, pattern: Record<string, number> | null | undefined): void {
  for (const name of Object.keys(pattern ?? {})) {
    if (!/^[A-Za-z0-9_.]+$/.test(name)) refuse(key, name, 'only plain module names are supported')
  }
}

function lookUp(pattern: Record<string, number> | null | undefined, module: string) {
  const match = Object.entries(pattern ?? {}).find(
    ([name]) => module === name || module.endsWith(`.${name}`),
  )
  return match?.[1]
}
