// Section adapters: a batch without adapters, with one, and with 8 different ones. llama.cpp cannot
// mix adapters in a batch: its streams go in turn.

import { type Builder, ratio } from './builder.ts'
import { atLeast, type Section } from './section.ts'
import { targetFor } from './targets.ts'

const different = [0, 1, 2, 3, 4, 5, 6, 7]
const same = different.map(() => 0)
const none = different.map(() => null)

export function adapterSections(builder: Builder): readonly Section[] {
  const { makeUse, decodeCase, q4, instructionSet } = builder
  const held = makeUse('dutyfree-c-api', 'int4-128', { resident: 8 })
  const peft = makeUse('transformers', 'bfloat16', { resident: 1 })
  const oursNone = decodeCase(held, 8, none, 'base')
  const oursOne = decodeCase(held, 8, same, 'one adapter')
  const oursAll = decodeCase(held, 8, different, '8 different adapters')
  const aloneNone = decodeCase(held, 1, none, 'base')
  const aloneOne = decodeCase(held, 1, same, 'one adapter')
  const llamaNone = decodeCase(q4, 8, none, 'base')
  const llamaOne = decodeCase(q4, 8, same, 'one adapter')
  const llamaTurns = decodeCase(q4, 8, different, '8 different adapters in turn')
  const peftOne = decodeCase(peft, 8, same, 'one adapter')
  return [
    builder.section(
      'adapters',
      'adapters in one batch',
      [oursNone, oursOne, oursAll, aloneNone, aloneOne, llamaNone, llamaOne, llamaTurns, peftOne],
      [
        ratio(
          oursAll,
          oursNone,
          '8 different adapters over 8 rows of base',
          targetFor(instructionSet, '8 adapters over base'),
        ),
        ratio(oursOne, oursNone, '8 rows of one adapter over 8 rows of base'),
        ratio(aloneOne, aloneNone, '1 row with an adapter over 1 row of base'),
        ratio(oursAll, llamaTurns, '8 different adapters over llama.cpp in turn', atLeast(3.5)),
        ratio(oursOne, llamaOne, '8 rows of one adapter over llama.cpp'),
        ratio(oursOne, peftOne, '8 rows of one adapter over transformers with PEFT'),
      ],
    ),
  ]
}
