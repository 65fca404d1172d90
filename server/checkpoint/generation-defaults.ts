// generation_config.json: what ends a sequence and how tokens are chosen where a request is silent. A
// setting that is not supported is named, unless its value changes nothing.

import { z } from 'zod'
import type { GenerationDefaults } from '../contracts/checkpoint.ts'
import {
  keptTokens,
  minPRange,
  repetitionPenaltyRange,
  topKRange,
  topPRange,
} from '../contracts/sampling-range.ts'
import { parseJson } from './json.ts'

const tokenIds = z.union([z.int().nonnegative(), z.array(z.int().nonnegative())]).nullish()

export const eosField = { eos_token_id: tokenIds }

const generationSchema = z.looseObject({
  ...eosField,
  do_sample: z.boolean().nullish(),
  temperature: z.number().min(0).nullish(),
  top_p: topPRange.nullish(),
  top_k: topKRange.nullish(),
  min_p: minPRange.nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repetition_penalty: repetitionPenaltyRange.nullish(),
})

type Neutral = (value: unknown) => boolean

function is(...values: readonly unknown[]): Neutral {
  return (value) => values.includes(value)
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}

/** What transformers would do with these is not done here. */
const unsupported: Readonly<Record<string, Neutral>> = {
  typical_p: is(1),
  top_h: is(1),
  epsilon_cutoff: is(0),
  eta_cutoff: is(0),
  encoder_repetition_penalty: is(1),
  no_repeat_ngram_size: is(0),
  encoder_no_repeat_ngram_size: is(0),
  num_beams: is(1),
  num_beam_groups: is(1),
  diversity_penalty: is(0),
  length_penalty: is(1),
  penalty_alpha: is(0),
  guidance_scale: is(1),
  min_length: is(0),
  min_new_tokens: is(0),
  max_length: is(20),
  max_new_tokens: is(),
  max_time: is(),
  stop_strings: isEmpty,
  bad_words_ids: isEmpty,
  force_words_ids: isEmpty,
  suppress_tokens: isEmpty,
  begin_suppress_tokens: isEmpty,
  sequence_bias: isEmpty,
  constraints: isEmpty,
  forced_bos_token_id: is(),
  forced_eos_token_id: is(),
  exponential_decay_length_penalty: is(),
  watermarking_config: is(),
  dola_layers: is(),
}

export function parseGenerationDefaults(
  generationJson: unknown | null,
  configJson: unknown,
): GenerationDefaults {
  const own = parseJson(generationSchema, generationJson ?? {}, 'generation_config.json')
  const config = parseJson(z.looseObject(eosField), configJson, 'config.json')
  // do_sample false is greedy search: what only cuts or warps the distribution means nothing then.
  const sampled = own.do_sample === false ? null : own
  return {
    // Whatever one of the files says ends a sequence.
    eosTokenIds: [...new Set([own.eos_token_id ?? [], config.eos_token_id ?? []].flat())],
    sampling: {
      temperature: sampled === null ? 0 : (sampled.temperature ?? 1),
      topP: sampled?.top_p ?? 1,
      topK: keptTokens(sampled?.top_k ?? 0),
      minP: sampled?.min_p ?? 0,
      presencePenalty: own.presence_penalty ?? 0,
      frequencyPenalty: own.frequency_penalty ?? 0,
      repetitionPenalty: own.repetition_penalty ?? 1,
    },
    unsupported: Object.entries(own)
      .filter(([name, value]) => value != null && Object.hasOwn(unsupported, name))
      .filter(([name, value]) => !unsupported[name]!(value))
      .map(([name]) => name),
  }
}
