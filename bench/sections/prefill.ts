// Section prefill: a prompt of 512 tokens.

import { type Builder, ratio } from './builder.ts'
import { atLeast, type Section } from './section.ts'

export function prefillSections(builder: Builder): readonly Section[] {
  return [besideLlama(builder), besideTransformers(builder)]
}

function besideLlama(builder: Builder): Section {
  const { int4, int4Fine, int8, q4, q8, binding, prefillCase } = builder
  return builder.section(
    'prefill',
    'prefill',
    [int4, int4Fine, q4, binding, int8, q8].map(prefillCase),
    [
      ratio(prefillCase(int4), prefillCase(q4), 'prefill: int4-128 over Q4_0', atLeast(1.2)),
      ratio(prefillCase(int4Fine), prefillCase(q4), 'prefill: int4-32 over Q4_0', atLeast(1.2)),
      ratio(prefillCase(int8), prefillCase(q8), 'prefill: int8-128 over Q8_0', atLeast(1.6)),
      ratio(prefillCase(int4), prefillCase(binding), 'prefill: C API over session.run'),
    ],
  )
}

function besideTransformers(builder: Builder): Section {
  const { int4, torch, prefillCase } = builder
  return builder.section(
    'prefill',
    'prefill, against transformers',
    [int4, ...torch].map(prefillCase),
    torch.map((use) =>
      ratio(
        prefillCase(int4),
        prefillCase(use),
        `prefill: int4-128 over transformers ${use.weights}`,
      ),
    ),
  )
}
