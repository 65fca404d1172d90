// The error table, its documentation, and what may be shown of an error.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { parseSync, Visitor } from 'oxc-parser'
import { flags } from '../server/config.ts'
import { type ErrorCode, errorTable, ServerError } from '../server/errors.ts'
import { errorResponse, openAIError } from '../server/http/error-response.ts'
import { root } from './support/root.ts'

/** Errors about a limit or a setting of the operator → the flags that move it. */
const flagsOfLimits: Partial<Record<ErrorCode, readonly string[]>> = {
  context_length_exceeded: ['max-context'],
  request_too_large: ['max-body', 'max-upload'],
  rate_limit_exceeded: ['max-queue', 'keys-file'],
  timeout: ['request-timeout'],
  adapter_limit: ['adapter-memory', 'kv-memory'],
  adapter_rank_exceeded: ['max-adapter-rank'],
  adapter_required: ['require-adapter'],
  policy_floor: ['policy-floor', 'begun-answers'],
  guard_unavailable: ['safety', 'guard', 'guard-timeout'],
  host_not_allowed: ['allowed-hosts'],
  origin_not_allowed: ['cors-origins'],
}

/** Limits of the protocol and of texts that took too long, which no flag moves. */
const fixedLimits = /pieces of under|tokenizer too long|uploads are under way/

/** Every place of the server that makes an error of a code, as source text. */
const findErrors = (code: ErrorCode): { at: string; text: string }[] =>
  readdirSync(join(root, 'server'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) => {
      const source = readFileSync(join(root, 'server', path), 'utf8')
      const found: { at: string; text: string }[] = []
      const look = (call: { start: number; end: number; arguments: unknown[] }) => {
        const [first] = call.arguments as { type: string; value?: unknown }[]
        if (first?.type !== 'Literal' || first.value !== code || call.arguments.length < 2) return
        found.push({ at: path, text: source.slice(call.start, call.end) })
      }
      new Visitor({ NewExpression: look, CallExpression: look }).visit(
        parseSync(path, source).program,
      )
      return found
    })

describe('errors', () => {
  it('docs/ERRORS.md holds exactly the codes, statuses and types of the table', () => {
    const page = readFileSync('docs/ERRORS.md', 'utf8')
    const rows = [...page.matchAll(/^\| `(\w+)` \| (\d+) \| `(\w+)` \| .+ \|$/gm)]
    const documented = rows.map(([, code, status, type]) => [code, Number(status), type])
    const table = Object.entries(errorTable).map(([code, { status, type }]) => [code, status, type])
    assert.deepEqual(documented.sort(), table.sort())
  })

  it('every code becomes a response with its status in OpenAI’s shape', async () => {
    for (const code of Object.keys(errorTable) as ErrorCode[]) {
      const response = errorResponse(new ServerError(code, 'why', { param: 'field' }))
      assert.equal(response.status, errorTable[code].status)
      const expected = { message: 'why', type: errorTable[code].type, param: 'field', code }
      assert.deepEqual(await response.json(), { error: expected })
    }
  })

  it('messages and params stay short whatever they quote', () => {
    const long = 'x'.repeat(1_000_000)
    const body = openAIError(new ServerError('invalid_value', long, { param: long }))
    assert.ok(JSON.stringify(body).length < 4096)
  })

  it('survives the way across a process border', () => {
    const error = new ServerError('invalid_value', 'why', { param: 'a.0' })
    assert.deepEqual(ServerError.from(error.toBody()).toBody(), error.toBody())
  })

  for (const [code, names] of Object.entries(flagsOfLimits)) {
    it(`every ${code} names a flag that moves the limit: ${names.join(' or ')}`, () => {
      const errors = findErrors(code as ErrorCode)
      assert.ok(errors.length > 0)
      for (const { at, text } of errors) {
        assert.ok(
          fixedLimits.test(text) || names.some((name) => text.includes(`--${name}`)),
          `${at}: ${text}`,
        )
      }
      for (const name of names) assert.ok(flags.some((flag) => flag.name === name))
    })
  }
})
