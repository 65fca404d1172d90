// The error table, its documentation, and what may be shown of an error.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { type ErrorCode, errorTable, ServerError } from '../server/errors.ts'
import { errorResponse, openAIError } from '../server/http/error-response.ts'

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
})
