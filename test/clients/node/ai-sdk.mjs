// The AI SDK: its provider for OpenAI, which uses /v1/responses, and the one for compatible servers.

import assert from 'node:assert/strict'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import * as ai from 'ai'
import { z } from 'zod'
import { answer, check, isWeather, model, question, url } from './check.mjs'

const { generateText, streamText, Output, tool } = ai
const baseURL = `${url}/v1`
const openai = createOpenAI({ baseURL, apiKey: 'unused' })
const compatible = createOpenAICompatible({
  name: 'dutyfree',
  baseURL,
  supportsStructuredOutputs: true,
})
const schema = z.object({ sunny: z.boolean(), unit: z.enum(['C', 'F']) })
const settings = { prompt: question, temperature: 0, maxOutputTokens: 400, maxRetries: 0 }
const models = { responses: openai(model), chat: openai.chat(model), compatible: compatible(model) }

for (const [name, served] of Object.entries(models)) {
  await check(`${name}: text`, async () => {
    assert.equal((await generateText({ ...settings, model: served })).text, answer)
  })
  await check(`${name}: streamed`, async () => {
    const result = streamText({ ...settings, model: served })
    assert.equal(await result.text, answer)
  })
  await check(`${name}: object`, async () => {
    const output = Output.object({ schema })
    isWeather((await generateText({ ...settings, model: served, output })).output)
  })
  await check(`${name}: tool required`, async () => {
    const tools = { weather: tool({ description: 'Tells the weather', inputSchema: schema }) }
    const asked = { ...settings, model: served, tools, toolChoice: 'required' }
    const { toolCalls } = await generateText(asked)
    isWeather(toolCalls[0].input)
  })
}
