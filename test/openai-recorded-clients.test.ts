// Bodies as unmodified clients sent them, on the real server with models/tiny-reasoner. Versions and
// runs: docs/log/2026-11-28-clients-as-they-are.md.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type RealServer, startServer } from './support/real-server.ts'
import { createTempFolder } from './support/temp-folder.ts'

const patience = 60_000
const temp = createTempFolder()
const question = 'A shop fills 2 bags, each with 62 books. How many books are there now?'
const answer = 'The answer is 124.'
const user = { role: 'user', content: question }
const asked = { model: 'tiny-reasoner', messages: [user], temperature: 0 }
const parameters = { type: 'object', properties: {}, additionalProperties: false }
const tools = [{ type: 'function', function: { name: 'get_time', description: '', parameters } }]

/** The turn that a client makes of an answer whose thought was cut, in the middle of a history. */
function history(...turns: readonly object[]) {
  return { ...asked, messages: [user, ...turns, user] }
}

interface Answer {
  readonly choices: readonly {
    readonly message: { readonly content: string }
    readonly text: string
    readonly finish_reason: string
  }[]
}

const chats: Readonly<Record<string, object>> = {
  'lm-eval, a task that stops at an empty line': {
    ...asked,
    max_tokens: 512,
    stop: ['\n\n'],
    seed: 1234,
  },
  'lm-eval, a task without stops': { ...asked, max_tokens: 512, stop: [], seed: 1234 },
  'lm-eval, four stops': {
    ...asked,
    max_tokens: 512,
    stop: ['\n\n', 'Question:', '</s>', '<|im_end|>'],
    seed: 1234,
  },
  'llm -c': { ...history({ role: 'assistant', content: null }), stream: false },
  'LiteLLM, cut answer': history({
    content: '',
    role: 'assistant',
    reasoning_content: '62*',
    provider_specific_fields: { reasoning: '62*' },
  }),
  'openai-python, cut answer dumped': history({
    content: '',
    refusal: null,
    role: 'assistant',
    annotations: null,
    audio: null,
    function_call: null,
    tool_calls: null,
    reasoning: '62*',
    reasoning_content: '62*',
  }),
  'LangChain, cut answer': history({ content: '', role: 'assistant' }),
  'pydantic-ai, history': history({ role: 'assistant', reasoning: 'so 124', content: answer }),
  'AI SDK compatible, cut answer': history({
    role: 'assistant',
    content: '',
    reasoning_content: '62*',
  }),
  'AI SDK openai, cut answer left out': history(),
  'LangChain, tools': { ...asked, stream: false, tools },
  'pydantic-ai and AI SDK, tools': { ...asked, stream: false, tool_choice: 'auto', tools },
}

describe('bodies as unmodified clients sent them', () => {
  let server: RealServer

  before(async () => {
    const limits = ['--max-batch', '4', '--threads', '1', '--kv-memory', '256MiB']
    const folders = ['--adapters', join(temp, 'adapters'), '--cache-dir', join(temp, 'cache')]
    server = await startServer([...folders, ...limits])
  })
  after(async () => {
    assert.equal(await server?.stop(), 0)
  })

  async function post(route: string, body: object): Promise<Answer> {
    const response = await fetch(`${server.url}/v1/${route}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(patience),
    })
    const reply = (await response.json()) as Answer
    assert.equal(response.status, 200, JSON.stringify(reply))
    return reply
  }

  for (const [name, body] of Object.entries(chats)) {
    it(name, async () => {
      const { choices } = await post('chat/completions', body)
      assert.equal(choices[0]!.message.content, answer)
      assert.equal(choices[0]!.finish_reason, 'stop')
    })
  }

  it('evalplus: twenty samples, each a text even where the thought is cut', async () => {
    const body = { ...asked, max_tokens: 12, n: 20, temperature: 0.8, top_p: 0.95 }
    const { choices } = await post('chat/completions', body)
    assert.equal(choices.length, 20)
    for (const { message } of choices) assert.equal(typeof message.content, 'string')
  })

  it('lm-eval on raw prompts: six stops', async () => {
    const prompt = `<｜begin▁of▁sentence｜><｜User｜>${question}<｜Assistant｜><think>\n`
    const stop = ['Question:', '</s>', '<|im_end|>', '#', '<|eot_id|>', '\n\nQ']
    const { model, temperature } = asked
    const body = { prompt, model, max_tokens: 512, temperature, stop, seed: 1234 }
    const { choices } = await post('completions', { ...body, add_special_tokens: false })
    assert.match(choices[0]!.text, /The answer is 124\.$/)
  })
})
