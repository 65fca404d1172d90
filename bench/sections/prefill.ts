// Section prefill: a prompt of 512 tokens, and a long one.

import { type Builder, overBest, ratio } from './builder.ts'
import type { Section } from './section.ts'
import { targetFor } from './targets.ts'

export function prefillSections(builder: Builder): readonly Section[] {
  const { isQuick } = builder.options
  const isLarge = builder.shape === 'r1-qwen-7b'
  return [usualPrompt(builder), ...(isQuick || isLarge ? [] : [longPrompt(builder)])]
}

function usualPrompt(builder: Builder): Section {
  const { int4, int4Fine, int8, q4, q8, openvino4, openvino8, binding, binding8, torch } = builder
  const { prefillCase, instructionSet } = builder
  const isLarge = builder.shape === 'r1-qwen-7b'
  const ours = isLarge ? [int4] : [int4, int4Fine, int8]
  const fours = [q4, openvino4, binding, ...torch]
  const eights = isLarge ? [] : [q8, openvino8, binding8]
  const at = (use: typeof int4) => prefillCase(use)
  return builder.section('prefill', 'prefill', [...ours, ...fours, ...eights].map(at), [
    overBest(
      at(int4),
      fours.map(at),
      'prefill: int4-128 over the best peer',
      targetFor(instructionSet, 'prefill, int4'),
    ),
    ratio(
      at(int4Fine),
      at(q4),
      'prefill: int4-32 over llama.cpp Q4_0',
      targetFor(instructionSet, 'blocks of 32, prefill'),
    ),
    overBest(
      at(int8),
      eights.map(at),
      'prefill: int8-128 over the best peer',
      targetFor(instructionSet, 'prefill, int8'),
    ),
  ])
}

function longPrompt(builder: Builder): Section {
  const { makeUse, prefillCase, instructionSet } = builder
  const { longPromptTokens: tokens } = builder.options
  const long = { rows: 1, capacity: tokens + 512 }
  const [int4, q4, openvino4, int8, q8, openvino8] = [
    makeUse('dutyfree-c-api', 'int4-128', long),
    makeUse('llama.cpp', 'Q4_0', long),
    makeUse('openvino', 'int4-128 f16', long),
    makeUse('dutyfree-c-api', 'int8-128', long),
    makeUse('llama.cpp', 'Q8_0', long),
    makeUse('openvino', 'int8-128 f16', long),
  ].map((use) => prefillCase(use, tokens))
  return builder.section(
    'prefill',
    `prefill, ${tokens} tokens`,
    [int4!, q4!, openvino4!, int8!, q8!, openvino8!],
    [
      overBest(
        int4!,
        [q4!, openvino4!],
        `prefill, ${tokens} tokens: int4-128 over the best peer`,
        targetFor(instructionSet, 'prefill, int4'),
      ),
      overBest(
        int8!,
        [q8!, openvino8!],
        `prefill, ${tokens} tokens: int8-128 over the best peer`,
        targetFor(instructionSet, 'prefill, int8'),
      ),
    ],
  )
}
