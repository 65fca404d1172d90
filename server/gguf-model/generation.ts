// What ends a sequence, and how tokens are chosen, by a GGUF file's metadata → generation_config.json.

import { z } from 'zod'
import type { GgufFile } from '../gguf/gguf-file.ts'
import { readMetadata, shortestDecimal } from './metadata.ts'
import { readVocabulary, tokenTypes } from './vocabulary.ts'

/**
 * Control tokens that end an answer whatever the file says, as llama.cpp has it: many files name one end
 * token and their templates close a turn with another.
 */
const endTexts = new Set([
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end|>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<end_of_turn>',
  '<EOT>',
  '<eos>',
  '</s>',
  '<｜end▁of▁sentence｜>',
])

const samplingSchema = z.looseObject({
  temp: z.number().optional(),
  top_k: z.number().optional(),
  top_p: z.number().optional(),
  min_p: z.number().optional(),
})

/** generation_config.json. */
export function readGgufGeneration(file: GgufFile): Readonly<Record<string, unknown>> {
  const { ids, tokens, typeOf } = readVocabulary(file)
  const named = [ids.eos, ids.eot, ids.eom].filter((id) => id !== undefined)
  const control = tokens.flatMap((text, id) =>
    endTexts.has(text) && typeOf(id) === tokenTypes.control ? [id] : [],
  )
  const given = readMetadata(file).read('general.sampling.', samplingSchema)
  const sampling = Object.fromEntries(
    (
      [
        ['temperature', given.temp],
        ['top_k', given.top_k],
        ['top_p', given.top_p],
        ['min_p', given.min_p],
      ] as const
    ).flatMap(([name, value]) => (value === undefined ? [] : [[name, shortestDecimal(value)]])),
  )
  return {
    ...(ids.bos !== undefined && { bos_token_id: ids.bos }),
    eos_token_id: [...new Set([...named, ...control])],
    ...(ids.padding !== undefined && { pad_token_id: ids.padding }),
    ...(Object.keys(sampling).length > 0 && { do_sample: true, ...sampling }),
  }
}
