// The fuzzer itself: a few inputs of each target in this process, and that a broken claim, a hang and a
// crash are told of with the input that made them. `npm run fuzz` gives the many.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { ServerError } from '../server/errors.ts'
import { runCampaign } from './fuzz/campaign.ts'
import { checkErrorBody, checkRefusal } from './fuzz/claims.ts'
import { readResponses } from './fuzz/http-responses.ts'
import { mutatedJson } from './fuzz/mutations.ts'
import { batchSize, targetNames, targetOf } from './fuzz/plan.ts'

/** Those that start a server get fewer. */
const numInputsOf = (name: string) => (name === 'server' || name === 'socket' ? 10 : 200)

describe('the fuzzer', () => {
  for (const name of targetNames) {
    it(`gives ${name} inputs without a broken claim`, async () => {
      const count = numInputsOf(name)
      const options = { seed: 1, count, targets: [name], hangMs: 90_000 }
      const { numInputs, failures, nextSeed } = await runCampaign(options)
      assert.deepEqual(failures, [])
      assert.deepEqual([numInputs, nextSeed], [count, 2])
    })
  }

  it('reaches every target within 10,000 inputs', () => {
    const seeds = Array.from({ length: 10_000 / batchSize }, (_, seed) => seed)
    const reached = new Set(seeds.map((seed) => targetOf(seed, []).name))
    assert.deepEqual([...reached].sort(), [...targetNames].sort())
  })

  it('ends a batch that begins no input for too long, and names its input', async () => {
    const options = { seed: 1, count: 1, targets: ['config'], hangMs: -1 }
    const { failures } = await runCampaign(options)
    assert.deepEqual(
      failures.map(({ target, seed }) => [target, seed]),
      [['config', 1]],
    )
    assert.match(failures[0]!.error, /no end within/)
  })

  it('the same seed makes the same inputs', () => {
    const sample = () =>
      fc.sample(mutatedJson([{ a: [1, { b: 2 }] }], ['a', 'c']), { seed: 3, numRuns: 50 })
    const texts = sample()
    assert.deepEqual(sample(), texts)
    assert.ok(new Set(texts).size > 20)
  })

  it('takes no error body with a leak, another status or a code that is not in the table', () => {
    const body = (fields: object) =>
      JSON.stringify({
        error: {
          message: 'no',
          type: 'invalid_request_error',
          param: null,
          code: 'invalid_json',
          ...fields,
        },
      })
    checkErrorBody(400, body({}))
    assert.throws(() => checkErrorBody(500, body({})))
    assert.throws(() => checkErrorBody(400, body({ code: 'odd' })))
    assert.throws(() => checkErrorBody(400, body({ stack: 'x' })))
    assert.throws(() => checkErrorBody(400, body({ message: 'Error\n    at run (app.js:3:1)' })))
    assert.throws(() => checkErrorBody(400, body({ message: '' })))
  })

  it('takes only a ServerError of the right code as a refusal', () => {
    const refuse = (error: Error) => () =>
      checkRefusal(['invalid_checkpoint'], () => {
        throw error
      })
    refuse(new ServerError('invalid_checkpoint', 'config.json: it is not JSON.'))()
    assert.throws(refuse(new TypeError('x is not a function')), TypeError)
    assert.throws(refuse(new ServerError('server_error', 'it failed')))
    assert.throws(refuse(new ServerError('invalid_checkpoint', 'dtype [object Object]')))
  })

  it('reads answers of a socket one after the other', () => {
    const first = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'
    const second = 'HTTP/1.1 400 x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}'
    assert.deepEqual(readResponses(`${first}HTTP/1.1 100 Continue\r\n\r\n${second}`), [
      { status: 200, isJson: false, body: 'abc' },
      { status: 400, isJson: true, body: '{}' },
    ])
    assert.throws(() => readResponses('HTTP/1.1 200 OK\r\n'))
  })
})
