// The tokenizer's ids beside the embedding's rows: a prompt never reaches a row that is not there, and
// what ends a sequence is what any file of the checkpoint says.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { checkVocabulary, endTokensOf, requireRows } from '../server/engine/token-ids.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { type ByteTokenizerOptions, writeByteTokenizer } from './support/byte-tokenizer.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
let numFolders = 0

function tokenizerOf(options: ByteTokenizerOptions = {}) {
  const dir = join(temp, String(++numFolders))
  writeByteTokenizer(dir, options)
  return loadTokenizer(dir)
}

const usual = tokenizerOf()
const { vocabSize } = usual

function noticesOf(check: (onNotice: (message: string) => void) => void): string[] {
  const notices: string[] = []
  check((message) => notices.push(message))
  return notices
}

describe('a prompt and the embedding', () => {
  it('may hold every row, and none beyond: 400 with the token’s text', () => {
    requireRows([0, vocabSize - 1], vocabSize, usual.tokenText)
    for (const id of [300, 10_000, -1, Number.NaN]) {
      assert.throws(() => requireRows([1, id], 300, usual.tokenText), {
        code: 'invalid_value',
        message: /rows for 0 to 299/,
      })
    }
  })

  it('the tokenizer makes ids beyond it: told at the start, by name', () => {
    assert.deepEqual(
      noticesOf((tell) => checkVocabulary(usual, vocabSize, tell)),
      [],
    )
    const [notice, ...others] = noticesOf((tell) => checkVocabulary(usual, 304, tell))
    assert.deepEqual(others, [])
    assert.match(notice!, /"<think>" \(304\), "<\/think>" \(305\)\. .*refused/)
    assert.match(noticesOf((tell) => checkVocabulary(usual, 100, tell))[0]!, /and \d+ more/)
  })

  it('every prompt would begin beyond it: no start', () => {
    const framed = tokenizerOf({ config: { add_bos_token: true } })
    assert.throws(() => checkVocabulary(framed, 300, () => {}), {
      code: 'invalid_checkpoint',
      message: /around every prompt/,
    })
  })
})

describe('end tokens', () => {
  const silent = { eosTokenIds: [], unsupported: [] }
  const unnamed = tokenizerOf({ config: { eos_token: null } })
  const ofUsual = usual.idOf(usual.namedTokens.eos_token!)!

  it('are those of all three files', () => {
    const both = { ...silent, eosTokenIds: [7, 8] }
    assert.deepEqual(
      endTokensOf(both, usual, vocabSize, () => {}),
      [7, 8, ofUsual],
    )
    assert.deepEqual(
      endTokensOf(silent, usual, vocabSize, () => {}),
      [ofUsual],
    )
    const same = { ...silent, eosTokenIds: [ofUsual] }
    assert.deepEqual(
      endTokensOf(same, usual, vocabSize, () => {}),
      [ofUsual],
    )
  })

  it('none, or none that the model can say, is told at the start', () => {
    for (const eosTokenIds of [[], [vocabSize]]) {
      const notices = noticesOf((tell) => {
        assert.deepEqual(endTokensOf({ ...silent, eosTokenIds }, unnamed, vocabSize, tell), [])
      })
      assert.match(notices[0]!, /names no end token/)
    }
  })

  it('settings that are not applied are named', () => {
    const unsupported = ['typical_p', 'num_beams']
    const [notice] = noticesOf((tell) =>
      endTokensOf({ ...silent, unsupported }, usual, vocabSize, tell),
    )
    assert.match(notice!, /not applied by this server: typical_p, num_beams\./)
  })
})
