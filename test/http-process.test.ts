// The process: signals, exit codes, and the one line an operator gets. Each test has its own child.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { within } from './support/deadline.ts'
import { goodChat, parseEvents, until } from './support/front.ts'

const patience = 15_000
const folder = new URL('.', import.meta.url).pathname
// The children are compiled files: nothing else runs on Node 20.
const fakeServer = `${folder}support/serve-fake.js`
const mainFile = `${folder}../server/main.js`

interface Child {
  readonly process: ChildProcess
  readonly output: { out: string; err: string }
  readonly exit: Promise<number | null>
}

const start = (file: string, args: readonly string[]): Child => {
  const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const output = { out: '', err: '' }
  child.stdout.on('data', (part) => {
    output.out += part
  })
  child.stderr.on('data', (part) => {
    output.err += part
  })
  const exit = once(child, 'close').then(([code]) => code as number | null)
  return { process: child, output, exit }
}

const withServer = async (
  test: (child: Child, url: string) => Promise<void>,
  ...adminPort: readonly string[]
) => {
  const child = start(fakeServer, ['0', ...adminPort])
  try {
    await until(patience, 'ready', () => child.output.out.includes('"message":"ready"'))
    await test(child, /"url":"([^"]+)"/.exec(child.output.out)?.[1] as string)
  } finally {
    child.process.kill('SIGKILL')
  }
}

const chat = (url: string, fields: object): Promise<Response> =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...goodChat, ...fields }),
  })

const exitOf = (child: Child) => within(patience, 'exit', child.exit)

/** What main prints and exits with when it cannot start. */
const failure = async (args: readonly string[]) => {
  const child = start(mainFile, args)
  const code = await exitOf(child)
  return { code, lines: child.output.err.trim().split('\n') }
}

/** Processes that it has started (Linux). */
const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number)

const statusOf = async (url: string) => {
  const response = await fetch(`${url}/health/ready`)
  await response.arrayBuffer()
  return response.status
}

describe('the server process', () => {
  // The operator's adapters are looked at once the engine is ready: an engine that ends just then
  // ended the server.
  const isLinux = process.platform === 'linux'
  it('lives through an engine that is killed as soon as it is ready', {
    skip: !isLinux,
  }, async () => {
    const cacheDir = mkdtempSync(join(tmpdir(), 'dutyfree-test-'))
    const flags = ['--port', '0', '--cache-dir', cacheDir, '--default-adapter', 'safety-r1']
    const child = start(mainFile, flags)
    try {
      await until(patience, 'listening', () => child.output.err.includes('"msg":"listening"'))
      const url = /"url":"([^"]+)"/.exec(child.output.err)?.[1] as string
      const untilStatus = async (wanted: number) => {
        while ((await statusOf(url)) !== wanted);
      }
      await within(patience, 'ready', untilStatus(200))
      process.kill(childrenOf(child.process.pid as number)[0]!, 'SIGKILL')
      await within(patience, 'not ready', untilStatus(503))
      await within(patience, 'ready again', untilStatus(200))
      await until(patience, 'ready server', () => child.output.err.includes('"msg":"ready"'))
    } finally {
      child.process.kill('SIGKILL')
      rmSync(cacheDir, { recursive: true, force: true })
    }
  })

  it('SIGTERM when idle ends it with 0', () =>
    withServer(async (child) => {
      child.process.kill('SIGTERM')
      assert.equal(await exitOf(child), 0)
      assert.match(child.output.out, /"message":"stopped"/)
    }))

  it('SIGTERM during a stream drains; a second one ends the stream in an error, exit 0', () =>
    withServer(async (child, url) => {
      const running = await chat(url, { stream: true, stop: 'hang' })
      child.process.kill('SIGTERM')
      await until(patience, 'drain', () => child.output.out.includes('shutting down'))
      const refused = await chat(url, {})
      assert.equal(refused.status, 503)
      assert.equal(refused.headers.get('connection'), 'close')
      assert.equal((await fetch(`${url}/health/ready`)).status, 503)
      // Signals within 300 ms are one (Ctrl-C under npm start); send until the server takes a second.
      const again = setInterval(() => child.process.kill('SIGTERM'), 100)
      try {
        const events = parseEvents(await within(patience, 'stream end', running.text()))
        assert.equal(events.at(-1), '[DONE]')
        assert.match(JSON.stringify(events.at(-2)), /"shutting_down"/)
        assert.equal(await exitOf(child), 0)
      } finally {
        clearInterval(again)
      }
    }))

  it('SIGTERM under load cuts no stream: all that run end by themselves, exit 0', () =>
    withServer(async (child, url) => {
      const streams = await Promise.all(
        Array.from({ length: 24 }, () => chat(url, { stream: true, stop: 'signal' })),
      )
      child.process.kill('SIGTERM')
      const texts = await within(patience, 'streams', Promise.all(streams.map((one) => one.text())))
      for (const text of texts) {
        const events = parseEvents(text)
        assert.equal(events.at(-1), '[DONE]')
        assert.match(text, /before.* and after/s)
        assert.match(text, /"finish_reason":"stop"/)
        assert.doesNotMatch(text, /"error"/)
      }
      assert.equal(await exitOf(child), 0)
    }))

  it('--admin-port: two listeners, of which neither answers what is the other’s; SIGTERM closes both', () =>
    withServer(async (child, url) => {
      const adminUrl = /"adminUrl":"([^"]+)"/.exec(child.output.out)?.[1] as string
      const remove = (at: string) =>
        fetch(`${at}/v1/adapters/terse`, {
          method: 'DELETE',
          headers: { authorization: 'Bearer boss' },
        })
      assert.equal((await remove(url)).status, 404)
      assert.equal((await chat(adminUrl, {})).status, 404)
      assert.equal((await chat(url, {})).status, 200)
      assert.equal((await remove(adminUrl)).status, 200)
      assert.equal(await statusOf(adminUrl), 200)
      const running = await chat(url, { stream: true, stop: 'hang' })
      child.process.kill('SIGTERM')
      await until(patience, 'drain', () => child.output.out.includes('shutting down'))
      assert.equal((await remove(adminUrl)).status, 503)
      await running.body?.cancel()
      assert.equal(await exitOf(child), 0)
      for (const at of [url, adminUrl]) await assert.rejects(fetch(`${at}/health/live`))
    }, '0'))

  it('an admin port in use is one line and exit 1', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    try {
      const child = start(fakeServer, ['0', String((holder.address() as AddressInfo).port)])
      assert.equal(await exitOf(child), 1)
      assert.match(
        child.output.err,
        /^127\.0\.0\.1:\d+ is in use; choose another --admin-port .*\n$/,
      )
    } finally {
      holder.close()
    }
  })

  it('an admin port without an admin key in the keys file is one line and exit 1', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dutyfree-test-'))
    const keys = join(folder, 'keys.json')
    writeFileSync(
      keys,
      JSON.stringify({ keys: [{ name: 'a', sha256: '0'.repeat(64), roles: ['inference'] }] }),
    )
    try {
      const { code, lines } = await failure(['--admin-port', '0', '--keys-file', keys])
      assert.equal(code, 1)
      assert.deepEqual(lines, [
        'dutyfree: --admin-port needs a key of the role admin, and no key of --keys-file has it',
      ])
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })

  it('a port in use is one line and exit 1', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    try {
      const child = start(fakeServer, [String((holder.address() as AddressInfo).port)])
      assert.equal(await exitOf(child), 1)
      assert.match(child.output.err, /^127\.0\.0\.1:\d+ is in use; choose another --port .*\n$/)
    } finally {
      holder.close()
    }
  })

  it('a bad flag is one line and exit 1', async () => {
    const { code, lines } = await failure(['--port', 'x'])
    assert.equal(code, 1)
    assert.deepEqual(lines, ['dutyfree: --port must be a whole number from 0 to 65535; got "x"'])
  })

  it('a missing model is one line and exit 1', async () => {
    const { code, lines } = await failure(['--model', 'no/such/folder'])
    assert.equal(code, 1)
    assert.equal(lines.length, 1)
    assert.match(lines[0] as string, /^dutyfree: --model must be a checkpoint folder .*"no\/such/)
  })

  it('--version and --help print and exit 0', async () => {
    const version = start(mainFile, ['--version'])
    assert.equal(await exitOf(version), 0)
    assert.match(version.output.out, /^\d+\.\d+\.\d+\n$/)
    const help = start(mainFile, ['--help'])
    assert.equal(await exitOf(help), 0)
    assert.match(help.output.out, /--max-queue <n>/)
  })
})
