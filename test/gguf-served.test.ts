// A GGUF file as users start it: the shipped reasoner as one file gives the answers of its folder.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { lacksPython, python } from './support/python.ts'
import { startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()

interface Answer {
  readonly model: string
  readonly choices: readonly [{ readonly message: unknown; readonly finish_reason: string }]
  readonly usage: unknown
}

async function answersOf(model: string) {
  const server = await startServer(['--model', model])
  const read = async (path: string, init?: RequestInit) =>
    (await fetch(`${server.url}${path}`, init)).json() as Promise<unknown>
  try {
    const content = 'A shop fills 2 bags, each with 62 books. How many books are there now?'
    const body = { model: 'reasoner', temperature: 0, messages: [{ role: 'user', content }] }
    const {
      model: id,
      choices,
      usage,
    } = (await read('/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })) as Answer
    const [{ message, finish_reason: reason }] = choices
    const tokens = await read('/tokenize', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: '<think>é 12 books</think>' }),
    })
    return { id, message, reason, usage, tokens }
  } finally {
    assert.equal(await server.stop(), 0)
  }
}

test('the file and the folder answer alike, token for token', { skip: lacksPython }, async () => {
  const folder = join(temp, 'reasoner')
  cpSync(join(root, 'models', 'tiny-reasoner'), folder, { recursive: true })
  execFileSync(python, [join(root, 'test/support/gguf_checkpoint.py'), 'models', folder])
  const file = join(temp, 'reasoner.gguf')
  cpSync(join(folder, 'model.gguf'), file)
  const ofFile = await answersOf(file)
  const ofFolder = await answersOf(folder)
  assert.match(JSON.stringify(ofFile.message), /124/)
  assert.equal(ofFile.reason, 'stop')
  assert.deepEqual(ofFile, ofFolder)
})
