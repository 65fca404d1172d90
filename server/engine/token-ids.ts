// The tokenizer's ids beside the embedding's rows, which need not agree: what ends a sequence, what a
// prompt may hold, and what an operator should know of both at the start.

import type { GenerationDefaults } from '../contracts/checkpoint.ts'
import { thoughtEnd, thoughtStart } from '../contracts/thought.ts'
import { ServerError } from '../errors.ts'
import type { TokenTable, TokenTexts } from '../tokenizer/token-texts.ts'
import type { GrammarVocabulary } from './grammar-task.ts'

const maxNamed = 3

/** Checks a prompt where all ways meet: text, chat and ids. Throws ServerError. */
export function requireRows(
  tokens: readonly number[],
  vocabSize: number,
  textOf: (id: number) => string,
): void {
  const wrong = tokens.find((id) => !(id >= 0 && id < vocabSize))
  if (wrong === undefined) return
  throw new ServerError(
    'invalid_value',
    `The prompt has the token ${wrong} (${JSON.stringify(textOf(wrong).slice(0, 64))}), and this ` +
      `model's embedding has rows for 0 to ${vocabSize - 1}: leave that text out.`,
    { param: 'prompt' },
  )
}

type KnownTokens = Pick<
  TokenTexts,
  'vocabSize' | 'tokenText' | 'promptFrame' | 'idOf' | 'namedTokens'
>

/** Ids that the tokenizer may make and the embedding has no row for. */
export function checkVocabulary(
  tokenizer: KnownTokens,
  vocabSize: number,
  onNotice: (message: string) => void,
): void {
  const beyond: string[] = []
  for (let id = vocabSize; id < tokenizer.vocabSize; id++) {
    const text = tokenizer.tokenText(id)
    if (text !== '') beyond.push(`${JSON.stringify(text.slice(0, 64))} (${id})`)
  }
  if (tokenizer.promptFrame.some((id) => id >= vocabSize)) {
    throw new ServerError(
      'invalid_checkpoint',
      `The tokenizer puts ${beyond.slice(0, maxNamed).join(', ')} around every prompt; the embedding ` +
        `has rows for 0 to ${vocabSize - 1} only.`,
    )
  }
  if (beyond.length === 0) return
  const more = beyond.length > maxNamed ? ` and ${beyond.length - maxNamed} more` : ''
  onNotice(
    `The tokenizer has tokens that the embedding has no row for: ` +
      `${beyond.slice(0, maxNamed).join(', ')}${more}. A prompt with one of them is refused.`,
  )
}

/** What any of the checkpoint's files says ends a sequence. */
export function endTokensOf(
  { eosTokenIds, unsupported }: Omit<GenerationDefaults, 'sampling'>,
  tokenizer: KnownTokens,
  vocabSize: number,
  onNotice: (message: string) => void,
): readonly number[] {
  if (unsupported.length > 0) {
    onNotice(`generation_config.json: not applied by this server: ${unsupported.join(', ')}.`)
  }
  const { eos_token: text } = tokenizer.namedTokens
  const named = text === undefined ? undefined : tokenizer.idOf(text)
  const all = named === undefined ? eosTokenIds : [...new Set([...eosTokenIds, named])]
  const ids = all.filter((id) => id < vocabSize)
  if (ids.length === 0) {
    onNotice(
      'The checkpoint names no end token (eos_token_id in generation_config.json or config.json, ' +
        'eos_token in tokenizer_config.json): answers end at stop strings and max_tokens only.',
    )
  }
  return ids
}

/** What constrained text may be made of: nothing that is special, ends the answer or marks a thought. */
export function grammarVocabulary(
  { bytes, added }: TokenTable,
  { isSpecial, idOf }: TokenTexts,
  vocabSize: number,
  eosTokenIds: readonly number[],
): GrammarVocabulary {
  const marks = [thoughtStart, thoughtEnd].flatMap((mark) => idOf(mark) ?? [])
  const special = added.map(({ id }) => id).filter(isSpecial)
  return { bytes, vocabSize, excluded: [...marks, ...special, ...eosTokenIds] }
}
