// openai for Node: chat, parse(), responses, tools; whole and streamed.

import assert from 'node:assert/strict'
import OpenAI from 'openai'
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import { answer, check, isWeather, model, question, url } from './check.mjs'

const client = new OpenAI({
  baseURL: `${url}/v1`,
  apiKey: 'unused',
  maxRetries: 0,
  timeout: 60_000,
})
const weather = z.object({ sunny: z.boolean(), unit: z.enum(['C', 'F']) })
const messages = [{ role: 'user', content: question }]
const settings = { model, messages, temperature: 0, max_tokens: 400 }
const parameters = z.toJSONSchema(weather)
const tools = [{ type: 'function', function: { name: 'weather', parameters } }]

await check('chat', async () => {
  const { choices } = await client.chat.completions.create(settings)
  assert.equal(choices[0].message.content, answer)
})
await check('chat, streamed', async () => {
  const final = await client.chat.completions.stream(settings).finalChatCompletion()
  assert.equal(final.choices[0].message.content, answer)
})
await check('tools offered', async () => {
  const { choices } = await client.chat.completions.create({ ...settings, tools })
  assert.equal(choices[0].message.content, answer)
})
await check('tool required', async () => {
  const asked = { ...settings, tools, tool_choice: 'required' }
  const { choices } = await client.chat.completions.create(asked)
  isWeather(JSON.parse(choices[0].message.tool_calls[0].function.arguments))
})
await check('structured: parse()', async () => {
  const format = zodResponseFormat(weather, 'weather')
  const { choices } = await client.chat.completions.parse({ ...settings, response_format: format })
  isWeather(choices[0].message.parsed)
})
const input = { model, input: question, temperature: 0, max_output_tokens: 400 }
await check('responses', async () => {
  assert.equal((await client.responses.create(input)).output_text, answer)
})
await check('responses, streamed', async () => {
  assert.equal((await client.responses.stream(input).finalResponse()).output_text, answer)
})
await check('responses: parse()', async () => {
  const text = { format: zodTextFormat(weather, 'weather') }
  isWeather((await client.responses.parse({ ...input, text })).output_parsed)
})
await check('models', async () => {
  const { data } = await client.models.list()
  assert.ok(data.some(({ id }) => id === model))
})
