// The embedded model behind a template that opens no thought, as R1's distillations had until February
// 2025: the real server tells thought and answer apart all the same.

import assert from 'node:assert/strict'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { type RealServer, startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const model = join(temp, 'older')
const question = 'A shop fills 2 bags, each with 62 books. How many books are there now?'

describe('a template that opens no thought', () => {
  let server: RealServer
  let client: OpenAI

  before(async () => {
    cpSync(join(root, 'models', 'tiny-reasoner'), model, { recursive: true })
    const path = join(model, 'chat_template.jinja')
    const source = readFileSync(path, 'utf8')
    const older = source.replace("'<｜Assistant｜><think>\\n'", "'<｜Assistant｜>'")
    assert.notEqual(older, source)
    writeFileSync(path, older)
    const limits = ['--max-batch', '2', '--threads', '1', '--kv-memory', '256MiB']
    const folders = ['--adapters', join(temp, 'adapters'), '--cache-dir', join(temp, 'cache')]
    server = await startServer(['--model', model, ...folders, ...limits])
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 })
  })
  after(async () => {
    assert.equal(await server?.stop(), 0)
  })

  const fields = (content: string, more: object = {}) => ({
    model: '',
    messages: [{ role: 'user' as const, content }],
    temperature: 0,
    max_tokens: 150,
    ...more,
  })

  async function ask(content: string, more: object = {}) {
    const { choices } = await client.chat.completions.create(fields(content, more))
    const { reasoning, content: answer } = choices[0]!.message as {
      reasoning?: string | null
      content: string | null
    }
    return { thought: reasoning ?? '', answer: answer ?? '' }
  }

  it('splits where the reply closes its thought, whole and streamed alike', async () => {
    for (const content of [question, 'Say <think> please.', 'What is </think>?']) {
      const { thought, answer } = await ask(content)
      assert.notEqual(thought, '')
      assert.notEqual(answer, '')
      assert.doesNotMatch(thought + answer, /think>/)
      const streamed = { thought: '', answer: '' }
      const stream = await client.chat.completions.create({ ...fields(content), stream: true })
      for await (const chunk of stream) {
        const delta = chunk.choices[0]!.delta as { reasoning?: string; content?: string }
        streamed.thought += delta.reasoning ?? ''
        streamed.answer += delta.content ?? ''
      }
      assert.deepEqual(streamed, { thought, answer })
    }
  })

  it('hides the thought, keeps stop strings out of it, and can do without it', async () => {
    const { thought, answer } = await ask(question)
    assert.deepEqual(await ask(question, { include_reasoning: false }), { thought: '', answer })
    const stop = ['\n\n', thought.slice(1, 4)]
    assert.deepEqual(await ask(question, { stop }), { thought, answer })
    const without = await ask(question, { reasoning_effort: 'none' })
    assert.equal(without.thought, '')
    assert.notEqual(without.answer, '')
  })
})
