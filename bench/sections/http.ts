// Section http: the server, asked over HTTP with streaming, beside bare loops.

import { type Builder, ratio } from './builder.ts'
import type { Section } from './section.ts'
import { streamTarget } from './targets.ts'

export function httpSections(builder: Builder): readonly Section[] {
  const { http, int4, q4, decodeCase, prefillCase, instructionSet } = builder
  // No target is set over it.
  const beside = builder.options.isQuick ? [] : [q4]
  return [
    builder.section(
      'http',
      'over HTTP, streaming',
      [http, int4, ...beside].flatMap((use) => [
        decodeCase(use, 1),
        decodeCase(use, 8),
        prefillCase(use),
      ]),
      [
        ...[1, 8].flatMap((n) => [
          ratio(
            decodeCase(http, n),
            decodeCase(int4, n),
            `${n} streams: HTTP over the bare loop`,
            streamTarget(instructionSet, 'HTTP', n),
          ),
          ratio(
            decodeCase(http, n),
            decodeCase(q4, n),
            `${n} streams: HTTP over llama.cpp's bare loop`,
          ),
        ]),
        ratio(
          prefillCase(http),
          prefillCase(int4),
          'prefill: HTTP until the first token over the bare loop',
        ),
      ],
    ),
  ]
}
