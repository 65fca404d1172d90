// Greedy answers of the real model in float32, alone and with each adapter, for the reference to
// judge. Also makes an adapter with random numbers on every linear module.

import { readdirSync, writeFileSync } from 'node:fs'
import { answer } from '../../bench/tools/answers.ts'
import { linearModules, type ModelConfig } from '../../server/contracts/checkpoint.ts'
import { loadChatTemplate } from '../../server/tokenizer/chat-template.ts'
import { loadTokenizer } from '../../server/tokenizer/tokenizer.ts'
import { loraTensors, writeAdapter } from '../support/tensor-files.ts'
import { type AnswersFile, adaptersRoot, answersPath, modelPath, openRealModel } from './place.ts'
import { prompts } from './prompts.ts'

const maxTokens = 16
/** Prompts that each adapter is compared on. */
const adapterPrompts = 4

/** Strong enough to move the logits, weak enough to leave a language. */
function writeRandomAdapter(model: ModelConfig): void {
  const layers = Array.from({ length: model.numLayers }, (_, layer) => layer)
  const tensors = loraTensors({ rank: 2, layers, modules: linearModules, seed: 1, model })
  const config = { r: 2, lora_alpha: 0.005, target_modules: linearModules }
  writeAdapter(adaptersRoot, 'random', { config, tensors })
}

const tokenizer = loadTokenizer(modelPath)
const template = loadChatTemplate(modelPath, tokenizer)
const asked = prompts.map((content) => {
  return template.encode([{ role: 'user', content }], { addGenerationPrompt: true }).tokens
})
const eos = [tokenizer.idOf(tokenizer.namedTokens.eos_token!)!]
const model = await openRealModel({ format: { kind: 'fp32' } })
writeRandomAdapter(model.config)
const answers: Record<string, number[][]> = {}
for (const id of ['base', ...readdirSync(adaptersRoot)]) {
  const isBase = id === 'base'
  const components = isBase ? [] : await model.components({ [id]: 1 })
  const some = isBase ? asked : asked.slice(0, adapterPrompts)
  const found = await answer(model, some, eos, maxTokens, components)
  answers[id] = found.map(({ tokens }) => tokens)
}
model.close()
const file: AnswersFile = { prompts, answers }
writeFileSync(answersPath, JSON.stringify(file))
