// Anthropic's package: messages whole and streamed, thoughts, a tool that must be used, tokens counted.

import assert from 'node:assert/strict'
import Anthropic from '@anthropic-ai/sdk'
import { answer, check, isWeather, model, question, url } from './check.mjs'

const client = new Anthropic({ baseURL: url, apiKey: 'unused', maxRetries: 0, timeout: 60_000 })
const messages = [{ role: 'user', content: question }]
const settings = { model, messages, temperature: 0, max_tokens: 400 }
const input_schema = {
  type: 'object',
  properties: { sunny: { type: 'boolean' }, unit: { enum: ['C', 'F'] } },
  required: ['sunny', 'unit'],
  additionalProperties: false,
}

await check('messages', async () => {
  const { content } = await client.messages.create(settings)
  assert.deepEqual(content, [{ type: 'text', text: answer }])
})
await check('messages, streamed', async () => {
  const thinking = { type: 'enabled', budget_tokens: 1024 }
  const { content } = await client.messages.stream({ ...settings, thinking }).finalMessage()
  assert.deepEqual([content[0].type, content[1].text], ['thinking', answer])
})
await check('tool required', async () => {
  const tools = [{ name: 'weather', input_schema }]
  const tool_choice = { type: 'tool', name: 'weather' }
  const { content } = await client.messages.create({ ...settings, tools, tool_choice })
  isWeather(content.find(({ type }) => type === 'tool_use').input)
})
await check('tokens counted', async () => {
  assert.ok((await client.messages.countTokens({ model, messages })).input_tokens > 5)
})
