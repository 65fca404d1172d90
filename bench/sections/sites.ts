// Section sites: base requests on a graph with sites for adapters and on one without.

import { type Builder, ratio } from './builder.ts'
import { atLeast, type Section } from './section.ts'

export function siteSections(builder: Builder): readonly Section[] {
  const { int4, makeUse, decodeCase, prefillCase } = builder
  const bare = makeUse('dutyfree-c-api', 'int4-128', { hasSites: false })
  return [
    builder.section(
      'sites',
      'base requests, with and without places for adapters',
      [int4, bare].flatMap((use) => [decodeCase(use, 1), decodeCase(use, 8), prefillCase(use)]),
      [
        ...[1, 8].map((n) =>
          ratio(
            decodeCase(int4, n),
            decodeCase(bare, n),
            `base, ${n} streams: adapter-ready graph over one without`,
            atLeast(0.98),
          ),
        ),
        ratio(
          prefillCase(int4),
          prefillCase(bare),
          'base, prefill: adapter-ready graph over one without',
        ),
      ],
    ),
  ]
}
