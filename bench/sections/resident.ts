// Section resident: 8 streams of 8 adapters, with few and with many adapters in memory.

import { type Builder, ratio } from './builder.ts'
import { atLeast, type Case, type Section } from './section.ts'

export function residentSections(builder: Builder): readonly Section[] {
  const { residents } = builder.options
  const [fewest] = residents
  return [
    builder.section(
      'resident',
      'adapters resident',
      residents.map((count) => residentCase(builder, count)),
      residents
        .slice(1)
        .map((count) =>
          ratio(
            residentCase(builder, count),
            residentCase(builder, fewest!),
            `${count} adapters resident over ${fewest}`,
            count === 1000 ? atLeast(0.99) : null,
          ),
        ),
    ),
  ]
}

/** The 8 adapters are spread over all that are resident. */
function residentCase({ makeUse, decodeCase }: Builder, count: number): Case {
  const use = makeUse('dutyfree-c-api', 'int4-128', { resident: count })
  const spread = Array.from({ length: 8 }, (_, i) => Math.floor((i * count) / 8))
  return decodeCase(use, 8, spread, `${count} resident`)
}
