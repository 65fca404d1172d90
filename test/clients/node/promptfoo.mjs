// promptfoo: its command, with an exact answer and an answer of a JSON Schema.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { answer, check, isWeather, model, question, url } from './check.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const folder = join(here, 'node_modules', 'promptfoo')
const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
const config = { apiBaseUrl: `${url}/v1`, apiKey: 'unused', temperature: 0, max_tokens: 400 }
const weather = {
  type: 'object',
  properties: { sunny: { type: 'boolean' }, unit: { enum: ['C', 'F'] } },
  required: ['sunny', 'unit'],
  additionalProperties: false,
}

/** What its own checks of the answer say, and the answer. */
function evaluate(name, more, asserted) {
  const [given, out] = [`${name}.json`, `${name}-out.json`]
  const suite = {
    prompts: ['{{question}}'],
    providers: [{ id: `openai:chat:${model}`, config: { ...config, ...more } }],
    tests: [{ vars: { question }, assert: [asserted] }],
  }
  writeFileSync(given, JSON.stringify(suite))
  const told = {
    PROMPTFOO_CONFIG_DIR: process.cwd(),
    PROMPTFOO_DISABLE_TELEMETRY: '1',
    PROMPTFOO_DISABLE_UPDATE: '1',
    PROMPTFOO_DISABLE_REMOTE_GENERATION: '1',
  }
  const args = [join(folder, bin.promptfoo), 'eval', '-c', given, '-o', out, '--no-cache']
  const env = { ...process.env, ...told }
  const done = spawnSync(process.execPath, args, { env, encoding: 'utf8', timeout: 240_000 })
  assert.equal(done.status, 0, `${done.stdout}${done.stderr}`.slice(-300))
  const [result] = JSON.parse(readFileSync(out, 'utf8')).results.results
  assert.equal(result.success, true, result.error)
  return result.response.output
}

await check('chat', () => {
  const more = { showThinking: false }
  assert.equal(evaluate('chat', more, { type: 'equals', value: answer }), answer)
})
await check('structured: json_schema', () => {
  const json_schema = { name: 'weather', strict: true, schema: weather }
  const more = { showThinking: false, response_format: { type: 'json_schema', json_schema } }
  const output = evaluate('schema', more, { type: 'is-json', value: weather })
  isWeather(typeof output === 'string' ? JSON.parse(output) : output)
})
