// What is measured under the run's options: a table of sections, each written in its own file.

import { describeMachine } from './machine.ts'
import type { BenchOptions, SectionName } from './options.ts'
import { sectionNames } from './options.ts'
import { adapterSections } from './sections/adapters.ts'
import { type Builder, createBuilder } from './sections/builder.ts'
import { decodeSections } from './sections/decode.ts'
import { httpSections } from './sections/http.ts'
import { prefillSections } from './sections/prefill.ts'
import { residentSections } from './sections/resident.ts'
import type { Section } from './sections/section.ts'
import { siteSections } from './sections/sites.ts'
import { switchSections } from './sections/switch.ts'
import { vllmSections } from './sections/vllm.ts'

/** One name may stand for several sections, each with engines of its own. */
const planners: Readonly<Record<SectionName, (builder: Builder) => readonly Section[]>> = {
  decode: decodeSections,
  prefill: prefillSections,
  adapters: adapterSections,
  resident: residentSections,
  sites: siteSections,
  http: httpSections,
  switch: switchSections,
  vllm: vllmSections,
}

/** The large shape is measured in 4 bits, and alone. */
const largeSections: readonly SectionName[] = ['decode', 'prefill']

/**
 * Shape by shape, in the order of the names; a section without a case that runs is left out. The
 * instruction set chooses the targets.
 */
export function planSections(
  options: BenchOptions,
  instructionSet: string = describeMachine().instructionSet,
): readonly Section[] {
  const names = sectionNames.filter((name) => options.sections.includes(name))
  return options.shapes
    .map((shape) => createBuilder(options, shape, instructionSet))
    .flatMap((builder) =>
      names
        .filter((name) => builder.shape !== 'r1-qwen-7b' || largeSections.includes(name))
        .flatMap((name) => planners[name](builder)),
    )
    .filter(({ cases }) => cases.length > 0)
}
