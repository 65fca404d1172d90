// The flags of live safety: what they become, and which of them contradict one another.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Config, engineOptions, parseCommand } from '../server/config.ts'
import { ServerError } from '../server/errors.ts'

const configOf = (...argv: string[]): Config => {
  const command = parseCommand(argv, {})
  assert.ok(command.kind === 'serve')
  return command.config
}

const address = ['--guard', 'https://guard.test/v1', '--guard-model', 'llama-guard']

describe('flags of live safety', () => {
  it('leave all to the guard where none is given', () => {
    const { safety, guard, guardFailure, judgeEvery, safetyThreshold, begunAnswers } = configOf()
    assert.deepEqual(
      [safety, guard, guardFailure, judgeEvery, safetyThreshold, begunAnswers],
      [null, { kind: 'auto' }, 'closed', 32, null, null],
    )
  })

  it('tell the engine whose guard it runs: none where one behind an address judges', () => {
    const guardOf = (...argv: string[]) => engineOptions(configOf(...argv), '/here').guard
    assert.equal(guardOf(), 'auto')
    assert.equal(guardOf('--guard', 'none'), 'none')
    assert.deepEqual(guardOf('--guard', 'adapter:watch'), { id: 'watch' })
    assert.equal(guardOf(...address), 'none')
  })

  it('make the adapter of escalations one of the operator’s', () => {
    const config = configOf('--safety', 'escalate', '--escalate-adapter', 'safety-r1:1.5')
    const options = engineOptions(config, '/here')
    assert.deepEqual(options.operatorsAdapters, [{ id: 'safety-r1', scale: 1.5 }])
  })

  const wrong: ReadonlyArray<readonly [readonly string[], RegExp]> = [
    [['--safety', 'on'], /^--safety must be one of off, observe, block, escalate; got "on"/],
    [['--guard', 'watch'], /^--guard must be auto, none, adapter:<name> or an http/],
    [['--guard', 'adapter:a b'], /^--guard must be/],
    [['--guard', 'ftp://x'], /^--guard must be/],
    [['--guard', 'https://user:key@x'], /without a key in it/],
    [['--judge-every', '0'], /^--judge-every must be a whole number from 1 to 4096/],
    [['--safety-threshold', '1.1'], /^--safety-threshold must be a number from 0 to 1/],
    [['--guard-failure', 'safe'], /^--guard-failure must be one of open, closed/],
    [['--begun-answers', 'no'], /^--begun-answers must be one of refuse, allow/],
    [['--policy-floor', 'no'], /^--policy-floor must be one of refuse, raise/],
    [['--guard', 'http://x'], /^--guard-model must name the model/],
    [['--guard-model', 'x'], /^--guard-model needs an address in --guard/],
    [['--guard-key-file', 'x'], /^--guard-key-file needs an address in --guard/],
    [['--guard', 'none', '--safety', 'block'], /^--safety block needs a guard; got --guard none/],
    [['--safety', 'escalate'], /^--safety escalate needs --escalate-adapter/],
    [[...address, '--safety', 'escalate'], /^--safety escalate needs a guard of the adapters/],
  ]
  for (const [argv, message] of wrong) {
    it(`refuse ${argv.join(' ')}`, () => {
      const isExpected = (error: unknown) =>
        error instanceof ServerError &&
        error.code === 'invalid_config' &&
        message.test(error.message)
      assert.throws(() => configOf(...argv), isExpected)
    })
  }
})
