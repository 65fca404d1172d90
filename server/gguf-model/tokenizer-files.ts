// A GGUF file's tokenizer → tokenizer.json and tokenizer_config.json as Hugging Face has them, which the
// tokenizer reads and an export writes.

import { z } from 'zod'
import type { GgufFile } from '../gguf/gguf-file.ts'
import { readMetadata } from './metadata.ts'
import { findPreTokenizer, type PreTokenizer, preTokenizerNames } from './pre-tokenizers.ts'
import { isAdded, readVocabulary, tokenTypes, type Vocabulary } from './vocabulary.ts'

type Json = Readonly<Record<string, unknown>>

/** tokenizer.json. */
export function readGgufTokenizer(file: GgufFile): Json {
  const vocabulary = readVocabulary(file)
  const preTokenizer = requirePreTokenizer(vocabulary)
  const { steps, normalizer, ignoresMerges } = preTokenizer
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    normalizer,
    pre_tokenizer: steps.length === 1 ? steps[0] : { type: 'Sequence', pretokenizers: steps },
    post_processor: frame(vocabulary, preTokenizer),
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoresMerges,
      vocab: vocab(vocabulary),
      merges: vocabulary.merges,
    },
  }
}

function requirePreTokenizer({ pre, metadata }: Vocabulary): PreTokenizer {
  const shown = pre === undefined ? 'is missing' : `is ${JSON.stringify(pre.slice(0, 60))}`
  return (
    findPreTokenizer(pre) ??
    metadata.refuse(
      'tokenizer.ggml.pre',
      `${shown}; ${preTokenizerNames.join(', ')} are supported. Convert the model again with a ` +
        'current llama.cpp if it is older, or use its safetensors',
    )
  )
}

/** Every token in use, the added ones too: only so does a reader keep their ids. */
function vocab({ tokens, typeOf, metadata }: Vocabulary): Record<string, number> {
  const ids: Record<string, number> = Object.create(null)
  for (const [id, text] of tokens.entries()) {
    if (typeOf(id) === tokenTypes.unused || text === '') continue
    if (text in ids) {
      metadata.invalid(
        'tokenizer.ggml.tokens',
        `has ${JSON.stringify(text.slice(0, 60))} twice: ${ids[text]} and ${id}`,
      )
    }
    ids[text] = id
  }
  return ids
}

function addedTokens({ tokens, typeOf }: Vocabulary): Json[] {
  return tokens.flatMap((content, id) => {
    if (!isAdded(typeOf(id)) || content === '') return []
    const special = typeOf(id) !== tokenTypes.userDefined
    const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false }
    return [{ id, content, ...plain, special }]
  })
}

/** What stands around a plain prompt. */
function frame({ ids, tokens, ...vocabulary }: Vocabulary, { addsBos }: PreTokenizer): Json {
  const asTemplate = (id: number | undefined, adds: boolean) =>
    id === undefined || !adds ? [] : [{ SpecialToken: { id: tokens[id], type_id: 0 } }]
  const before = asTemplate(ids.bos, vocabulary.addsBos ?? addsBos)
  const after = asTemplate(ids.eos, vocabulary.addsEos ?? false)
  if (before.length + after.length === 0) {
    return { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false }
  }
  const special = [...before, ...after].map(({ SpecialToken: { id } }) => {
    return [id, { id, ids: [tokens.indexOf(id!)], tokens: [id] }] as const
  })
  const sequence = (name: string) => ({ Sequence: { id: name, type_id: 0 } })
  return {
    type: 'TemplateProcessing',
    single: [...before, sequence('A'), ...after],
    pair: [...before, sequence('A'), ...after, ...before, sequence('B'), ...after],
    special_tokens: Object.fromEntries(special),
  }
}

const chatSchema = z.looseObject({ chat_template: z.string().optional() })

/** tokenizer_config.json, with the template that has no name. */
export function readGgufTokenizerConfig(file: GgufFile): Json {
  const { ids, tokens } = readVocabulary(file)
  const { chat_template: template } = readMetadata(file).read('tokenizer.', chatSchema)
  const named = {
    bos_token: ids.bos,
    eos_token: ids.eos,
    pad_token: ids.padding,
    unk_token: ids.unknown,
  }
  const texts = Object.entries(named).flatMap(([name, id]) =>
    id === undefined ? [] : [[name, tokens[id]]],
  )
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    ...Object.fromEntries(texts),
    clean_up_tokenization_spaces: false,
    ...(template !== undefined && { chat_template: template }),
  }
}
