// A checkpoint whose files say more than the shipped one's: the real server does what each of them says, and
// tells what it leaves out.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { openSafetensors } from '../server/checkpoint/safetensors.ts'
import { readJson } from './support/front.ts'
import { type RealServer, startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { encodeSafetensors, pseudoRandom } from './support/tensor-files.ts'

const temp = createTempFolder()
const shipped = join(root, 'models', 'tiny-reasoner')
const model = join(temp, 'model')
const numRows = 800
const hiddenSize = 128
const problem = 'A shop fills 2 bags, each with 62 books. How many books are there now?'
const fact = 'What is the capital of France?'

const readShipped = (name: string) => JSON.parse(readFileSync(join(shipped, name), 'utf8'))

function writeModel(): void {
  cpSync(shipped, model, { recursive: true })
  const write = (name: string, value: object) =>
    writeFileSync(join(model, name), JSON.stringify(value))
  const tokenizer = readShipped('tokenizer.json')
  const pad = { single_word: false, lstrip: false, rstrip: false, normalized: false }
  const added = { id: numRows, content: '[PAD]', special: false, ...pad }
  write('tokenizer.json', { ...tokenizer, added_tokens: [...tokenizer.added_tokens, added] })
  const answer: number = tokenizer.model.vocab.Ġanswer
  assert.ok(answer > 0)
  // config.json goes on naming the usual end token.
  write('generation_config.json', {
    do_sample: true,
    temperature: 1.9,
    top_k: 1,
    eos_token_id: answer,
  })
  writeHead()
}

/** A head that embeddings which are tied do without. */
function writeHead(): void {
  const file = openSafetensors(join(shipped, 'model.safetensors'), { code: 'invalid_checkpoint' })
  const tensors = [...file.tensors].map(
    ([name, { shape }]) => [name, { shape, data: file.readFloat32(name) }] as const,
  )
  file.close()
  const head = { shape: [numRows, hiddenSize], data: pseudoRandom(numRows * hiddenSize, 3) }
  const all = { ...Object.fromEntries(tensors), 'lm_head.weight': head }
  writeFileSync(join(model, 'model.safetensors'), encodeSafetensors(all, { format: 'pt' }))
}

describe('a checkpoint whose files say more', () => {
  let server: RealServer

  before(async () => {
    writeModel()
    mkdirSync(join(temp, 'adapters'))
    const limits = ['--max-batch', '2', '--threads', '1', '--kv-memory', '256MiB']
    const folders = ['--adapters', join(temp, 'adapters'), '--cache-dir', join(temp, 'cache')]
    server = await startServer(['--model', model, ...folders, ...limits])
  })
  after(async () => {
    assert.equal(await server?.stop(), 0)
  })

  async function post(path: string, body: object) {
    const response = await fetch(server.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: '', ...body }),
    })
    return { status: response.status, body: await readJson(response) }
  }

  async function ask(content: string, more: object = {}) {
    const messages = [{ role: 'user', content }]
    const { status, body } = await post('/v1/chat/completions', { messages, ...more })
    assert.equal(status, 200, body.error?.message)
    return body.choices[0]
  }

  it('ends at the end tokens of all files', async () => {
    const ended = await ask(problem, { temperature: 0 })
    assert.equal(ended.finish_reason, 'stop')
    assert.equal(ended.message.content.trim(), 'The')
    const other = await ask(fact, { temperature: 0 })
    assert.equal(other.finish_reason, 'stop')
    assert.match(other.message.content, /\.$/)
  })

  it('samples as generation_config.json says, but for what a request says', async () => {
    const greedy = (await ask(fact, { temperature: 0 })).message
    for (const seed of [1, 2, 3, 4]) {
      assert.deepEqual((await ask(fact, { seed })).message, greedy, 'top_k 1 is not applied')
    }
    const free = await Promise.all([1, 2, 3, 4].map((seed) => ask(fact, { seed, top_k: 0 })))
    assert.ok(free.some(({ message }) => message.content !== greedy.content))
  })

  it('refuses text of which the tokenizer makes an id without a row', async () => {
    const { status, body } = await post('/v1/completions', { prompt: 'Say [PAD]', max_tokens: 1 })
    assert.equal(status, 400)
    assert.match(body.error.message, /token 800 \("\[PAD\]"\)/)
    // In a message it is text like any other.
    assert.equal((await ask('Say [PAD]')).finish_reason, 'stop')
  })

  it('counts offsets in characters, whatever stands before them', async () => {
    const prompt = 'a😀b é'
    const fields = { prompt, max_tokens: 1, temperature: 0, echo: true, logprobs: 0 }
    const { body } = await post('/v1/completions', fields)
    const { text, logprobs } = body.choices[0]
    const characters = [...text]
    assert.ok(logprobs.text_offset.at(-1) >= [...prompt].length)
    for (const [i, token] of logprobs.tokens.entries()) {
      const rest = characters.slice(logprobs.text_offset[i]).join('')
      if (!token.includes('\ufffd')) assert.ok(rest.startsWith(token), `${token} in ${rest}`)
    }
  })

  it('tells what it leaves out: a head, a token without a row; and that no adapter is there', () => {
    const log = server.lines.join('\n')
    assert.match(log, /lm_head\.weight differs/)
    assert.match(log, /\[PAD\]\\" \(800\)/)
    assert.match(log, /holds no adapter/)
  })
})
