// Flags, variables and their texts.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import {
  addKeys,
  type Config,
  engineOptions,
  flags,
  parseCommand,
  renderFlagTable,
  renderHelp,
} from '../server/config.ts'
import { ServerError } from '../server/errors.ts'

const configOf = (argv: readonly string[], env: Record<string, string> = {}): Config => {
  const command = parseCommand(argv, env)
  assert.ok(command.kind === 'serve')
  return command.config
}

describe('configuration', () => {
  it('flags win over variables, variables over defaults, empty variables are unset', () => {
    assert.equal(configOf([]).port, 8000)
    assert.equal(configOf([], { DUTYFREE_PORT: '9' }).port, 9)
    assert.equal(configOf(['--port', '7'], { DUTYFREE_PORT: '9' }).port, 7)
    assert.equal(configOf([], { DUTYFREE_PORT: '' }).port, 8000)
  })

  it('takes --flag value and --flag=value', () => {
    assert.equal(configOf(['--host=a=b']).host, 'a=b')
    assert.equal(configOf(['--host', '0.0.0.0']).host, '0.0.0.0')
  })

  it('reads sizes and durations with units', () => {
    const sizes = { 65536: 65536, '2MB': 2e6, '4GiB': 4 * 2 ** 30, '1.5kB': 1500, '10 KiB': 10240 }
    for (const [text, bytes] of Object.entries(sizes)) {
      assert.equal(configOf(['--max-body', text]).maxBody, bytes, text)
    }
    const durations = { 600: 600_000, '600s': 600_000, '10m': 600_000, '250ms': 250, '1.5h': 5.4e6 }
    for (const [text, ms] of Object.entries(durations)) {
      assert.equal(configOf(['--request-timeout', text]).requestTimeout, ms, text)
    }
    assert.equal(configOf(['--drain-timeout', '0']).drainTimeout, 0)
  })

  it('reads adapters with strengths', () => {
    const config = configOf(['--require-adapter', 'safety-r1:0.8', '--default-adapter', 'terse'])
    assert.deepEqual(config.requireAdapter, { id: 'safety-r1', minScale: 0.8 })
    assert.deepEqual(config.defaultAdapter, { id: 'terse', scale: null })
  })

  it('reads the name of a header', () => {
    assert.equal(configOf(['--client-header', 'X-Real-IP']).clientHeader, 'x-real-ip')
    assert.throws(() => configOf(['--client-header', 'a: b']), /must be the name of a header/)
  })

  it('reads the layout of quantised weights', () => {
    const config = configOf(['--weight-block', '64', '--weight-zero-points', 'off'])
    assert.deepEqual([config.weightBlock, config.weightZeroPoints], [64, false])
    assert.deepEqual([configOf([]).weightBlock, configOf([]).weightZeroPoints], [null, null])
  })

  it('splits lists', () => {
    const config = configOf(['--api-key', 'a, b', '--cors-origins', 'https://a.example,*'])
    assert.deepEqual(config.apiKey, ['a', 'b'])
    assert.deepEqual(config.corsOrigins, ['https://a.example', '*'])
  })

  it('without --adapter-modules looks at the folder, with it does not', () => {
    const optionsOf = (argv: readonly string[]) => engineOptions(configOf(argv), '/here')
    const auto = optionsOf([])
    assert.deepEqual([auto.adapterModules, auto.scansAdapters], [['up_proj'], true])
    const declared = optionsOf(['--adapter-modules', 'up_proj, q_proj,up_proj'])
    assert.deepEqual(
      [declared.adapterModules, declared.scansAdapters],
      [['q_proj', 'up_proj'], false],
    )
  })

  const wrong: ReadonlyArray<readonly [readonly string[], RegExp]> = [
    [['--prot', '1'], /^unknown flag "--prot"; see --help$/],
    [['serve'], /^unknown flag "serve"/],
    [['--port'], /^--port needs a value/],
    [['--port', '--host'], /^--port needs a value/],
    [['--port', '1', '--port', '2'], /^--port is given twice/],
    [['--port', '65536'], /^--port must be a whole number from 0 to 65535; got "65536"$/],
    [['--port', '1e3'], /whole number/],
    [['--max-batch', '0'], /^--max-batch must be a whole number from 1/],
    [
      ['--adapter-modules', 'up_proj,lm_head'],
      /^--adapter-modules must be a comma list of q_proj,/,
    ],
    [['--max-body', '2XB'], /^--max-body must be a size such as .*; got "2XB"$/],
    [['--max-body', '0'], /must be a size/],
    [['--request-timeout', '0'], /above 0/],
    [['--request-timeout', '1 week'], /must be a duration/],
    [
      ['--request-timeout', '25h', '--drain-timeout', '700h'],
      /^--drain-timeout must be a duration/,
    ],
    [['--device', 'tpu'], /^--device must be one of cpu, webgpu, cuda; got "tpu"$/],
    [
      ['--weights', 'fp8'],
      /^--weights must be one of auto, fp32, fp16, int8, int4, stored; got "fp8"$/,
    ],
    [['--weight-block', '16'], /^--weight-block must be one of 32, 64, 128; got "16"$/],
    [['--weight-zero-points', 'yes'], /^--weight-zero-points must be one of on, off; got "yes"$/],
    [['--require-adapter', '../x'], /^--require-adapter must be <name>/],
    [['--require-adapter', 'a:5'], /strength from 0 to 4/],
    [['--default-adapter', 'none'], /must be <name>/],
    [['--cors-origins', 'app.example'], /^--cors-origins must be \*/],
    [['--log-level', 'loud'], /^--log-level must be one of/],
    [['--admin-host', '10.0.0.1'], /^--admin-host needs --admin-port$/],
    [['--admin-metrics', 'on'], /^--admin-metrics on needs --admin-port$/],
    [['--admin-port', '9000'], /^--admin-port needs a key of the role admin \(--admin-key or/],
    [
      ['--admin-port', '8000', '--admin-key', 'boss'],
      /^--admin-port must differ from --port; both are 8000$/,
    ],
    [['--admin-port', 'x', '--admin-key', 'boss'], /^--admin-port must be a whole number from 0/],
    [['--model', ''], /^--model must be a non-empty text/],
  ]
  for (const [argv, message] of wrong) {
    it(`${argv.join(' ')} is one clear line`, () => {
      assert.throws(
        () => parseCommand(argv, {}),
        (error) => {
          assert.ok(error instanceof ServerError)
          assert.equal(error.code, 'invalid_config')
          assert.match(error.message, message)
          assert.doesNotMatch(error.message, /\n/)
          return true
        },
      )
    })
  }

  it('--admin-port may be free on both sides, and needs a file or a key', () => {
    const { adminPort, adminHost } = configOf([
      '--admin-port',
      '0',
      '--port',
      '0',
      '--keys-file',
      'x',
    ])
    assert.deepEqual([adminPort, adminHost], [0, null])
  })

  it('names the variable when that is what is wrong', () => {
    assert.throws(
      () => parseCommand([], { DUTYFREE_PORT: 'x' }),
      /^ServerError: DUTYFREE_PORT must/,
    )
  })

  it('never shows a key', () => {
    assert.throws(
      () => parseCommand(['--api-key', 'se cret'], {}),
      (error: Error) => !error.message.includes('cret'),
    )
  })

  it('--help names each flag, its default and its meaning', () => {
    assert.equal(parseCommand(['--port', 'x', '--help'], {}).kind, 'help')
    assert.equal(parseCommand(['-v'], {}).kind, 'version')
    const help = renderHelp()
    for (const flag of flags) {
      assert.ok(flag.description.length > 0 && flag.value.length > 0, flag.name)
      assert.ok(help.includes(`--${flag.name} ${flag.value}`), flag.name)
      assert.ok(help.includes(flag.description), flag.name)
    }
  })

  it('paths for the engine are absolute and its name is the folder’s', () => {
    const options = engineOptions(configOf(['--model', 'models/x']), '/srv')
    assert.equal(options.model, '/srv/models/x')
    assert.equal(options.servedModelName, 'x')
    assert.equal(options.adapters, '/srv/adapters')
    const named = engineOptions(configOf(['--served-model-name', 'r1']), '/srv')
    assert.equal(named.servedModelName, 'r1')
  })

  it('a GGUF file’s name loses its ending, and the number of its part', () => {
    const nameOf = (model: string) => {
      const command = parseCommand(['--model', model], {})
      assert.ok(command.kind === 'serve')
      return engineOptions(command.config, '/work').servedModelName
    }
    assert.equal(nameOf('a/R1-7B.Q4_K_M.gguf'), 'R1-7B.Q4_K_M')
    assert.equal(nameOf('R1-7B-00001-of-00003.GGUF'), 'R1-7B')
    assert.equal(nameOf('a/folder-00001-of-00003'), 'folder-00001-of-00003')
  })

  it('the table of docs/FLAGS.md is the one rendered here', () => {
    const page = readFileSync('docs/FLAGS.md', 'utf8')
    const block = /<!-- flags:begin -->\n(.*?)<!-- flags:end -->/s.exec(page)?.[1]
    assert.ok(block !== undefined)
    const command = `node -e "import('./dist/server/config.js').then((m) => console.log(m.renderFlagTable()))"`
    assert.equal(block.trim(), renderFlagTable(), `put there what this prints: ${command}`)
  })
})

describe('--api-key-file', () => {
  const config = (argv: readonly string[]) => {
    const command = parseCommand(argv, {})
    assert.equal(command.kind, 'serve')
    return (command as Extract<typeof command, { kind: 'serve' }>).config
  }

  it('adds its keys, a line each, to those of the flag', () => {
    const { apiKey } = addKeys(config(['--api-key', 'a']), '\nb\r\n  c \n\nd,e\n')
    assert.deepEqual(apiKey, ['a', 'b', 'c', 'd', 'e'])
    assert.deepEqual(addKeys(config([]), 'only').apiKey, ['only'])
  })

  it('an empty or ill-formed one is an error that does not show it', () => {
    for (const text of ['', ' \n', 'sec ret', 'x\n,']) {
      assert.throws(() => addKeys(config([]), text), {
        code: 'invalid_config',
        message: /^--api-key-file must be 1–512 (?!.*sec ret)/,
      })
    }
  })
})
