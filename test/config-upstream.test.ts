// The flags of upstreams: what they need of one another, and what they change.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { engineOptions, parseCommand } from '../server/config.ts'

const configOf = (...argv: readonly string[]) => {
  const command = parseCommand(argv, {})
  assert.ok(command.kind === 'serve')
  return command.config
}
const over = ['--engine', 'vllm', '--upstream', 'http://a:1', '--upstream-adapters', 'shared']

describe('flags of upstreams', () => {
  it('take addresses as a list, and the flag more than once', () => {
    const config = configOf(...over, '--upstream', 'https://b,http://c:2/')
    assert.deepEqual(config.upstream, ['http://a:1', 'https://b', 'http://c:2'])
  })

  it('refuse addresses with a path, a key, another protocol or the same twice', () => {
    for (const url of [
      'http://b/v1',
      'http://k@b',
      'ftp://b',
      'b:8000',
      'http://a:1',
      'http://b?x=1',
    ]) {
      assert.throws(() => configOf(...over, '--upstream', url), /--upstream must be/, url)
    }
  })

  it('name what is missing, and what has no meaning', () => {
    assert.throws(() => configOf('--engine', 'vllm'), /--upstream must name/)
    assert.throws(() => configOf(...over.slice(0, 4)), /--upstream-adapters must name/)
    assert.throws(() => configOf('--upstream', 'http://a:1'), /--upstream needs --engine vllm/)
    assert.throws(() => configOf('--upstream-slots', '4'), /--upstream-slots needs --engine vllm/)
    for (const flag of ['device', 'weights', 'kv-memory', 'threads', 'kernels']) {
      const value = { device: 'cuda', weights: 'int8', kernels: 'own' }[flag] ?? '4'
      assert.throws(
        () => configOf(...over, `--${flag}`, value),
        new RegExp(`--${flag} has no meaning`),
      )
    }
  })

  it('change what costs more there, unless it was said', () => {
    const config = configOf(...over)
    assert.deepEqual(
      [config.maxBatch, config.judgeEvery, config.guard],
      [256, 1_048_576, { kind: 'none' }],
    )
    const said = configOf(
      ...over,
      '--max-batch',
      '4',
      '--judge-every',
      '64',
      '--guard',
      'adapter:g',
    )
    assert.deepEqual(
      [said.maxBatch, said.judgeEvery, said.guard],
      [4, 64, { kind: 'adapter', id: 'g' }],
    )
  })

  it('reach the engine with absolute paths and the key', () => {
    const { upstream } = engineOptions(
      configOf(...over, '--upstream-timeout', '5s'),
      '/here',
      'key',
    )
    assert.deepEqual(upstream, {
      urls: ['http://a:1'],
      adaptersDir: '/here/shared',
      slots: null,
      silenceMs: 5000,
      healthMs: 2000,
      healthTimeoutMs: 5000,
      key: 'key',
      fingerprint: null,
    })
    assert.equal(engineOptions(configOf(), '/here').upstream, null)
  })
})
