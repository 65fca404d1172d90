// The server process with --model org/name: health while the checkpoint comes, an answer after, and
// what a signal, a kill and a refusal do. The hub is on loopback and serves models/tiny-reasoner.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, describe, it } from 'node:test'
import { halfPath } from '../server/hub/download.ts'
import { within } from './support/deadline.ts'
import { parseEvents, readJson, until } from './support/front.ts'
import { type RepoContent, sha256, startHub, type TestHub } from './support/hub.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

/** Loading the model included, on a busy machine. */
const patience = 60_000
const token = 'hf_verysecrettoken'
const repo = 'org/tiny-reasoner'
const name = 'model.safetensors'
const folder = join(root, 'models/tiny-reasoner')
const content: RepoContent = Object.fromEntries(
  readdirSync(folder).map((file) => [file, readFileSync(join(folder, file))]),
)
const temp = createTempFolder()
const ggufFolder = mkdtempSync(join(temp, 'files-'))
writeFileSync(join(ggufFolder, 'a.gguf'), '')

interface Server {
  readonly process: ChildProcess
  readonly log: () => string
  readonly exit: Promise<number | null>
  /** Resolves with the address when the log has a line with this message. */
  url(message: string): Promise<string>
}

describe('the server with a model from a hub', () => {
  let hub: TestHub
  let commit: string
  const children: ChildProcess[] = []
  before(async () => {
    hub = await startHub({ repo, token })
    commit = hub.commit(content)
  })
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
  })
  after(() => hub.close())

  const start = (home: string, flags: readonly string[] = ['--model', repo], env = {}): Server => {
    const main = join(root, 'dist/server/main.js')
    const args = [main, '--port', '0', '--cache-dir', join(temp, 'graphs'), ...flags]
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        ...process.env,
        HF_ENDPOINT: hub.url,
        HF_HOME: home,
        HF_HUB_CACHE: '',
        HUGGINGFACE_HUB_CACHE: '',
        HF_HUB_OFFLINE: '',
        TRANSFORMERS_OFFLINE: '',
        HF_TOKEN: token,
        ...env,
      },
    })
    children.push(child)
    let log = ''
    child.stderr.on('data', (part) => {
      log += part
    })
    const exit = once(child, 'close').then(([code]) => code as number | null)
    return {
      process: child,
      log: () => log,
      exit,
      async url(message) {
        const line = () => log.split('\n').find((text) => text.includes(`"msg":"${message}"`))
        await until(patience, message, () => line() !== undefined || child.exitCode !== null)
        return JSON.parse(line() ?? `{"url": ${JSON.stringify(log)}}`).url
      },
    }
  }

  const newHome = () => mkdtempSync(join(temp, 'home-'))
  const blobs = (home: string) => join(home, 'hub/models--org--tiny-reasoner/blobs')
  const half = (home: string) => halfPath(join(blobs(home), sha256(content[name] as Buffer)))
  const halfBytes = (home: string) => statSync(half(home), { throwIfNoEntry: false })?.size ?? 0
  /** The hub holds the second half of the weights back. */
  const startStalled = async (home: string) => {
    hub.fail(name, { kind: 'stall' })
    const server = start(home)
    const url = await server.url('listening')
    const sent = (content[name] as Buffer).length >> 1
    await until(patience, 'half of the weights', () => halfBytes(home) === sent)
    return { server, url }
  }

  it('answers health checks while it downloads, and then chats under the id as given', async () => {
    const { server, url } = await startStalled(newHome())
    assert.equal((await fetch(`${url}/health/live`)).status, 200)
    const health = await fetch(`${url}/health/ready`)
    assert.equal(health.status, 503)
    const chat = (fields: object) =>
      fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          model: `${repo}:safety-r1`,
          temperature: 0,
          messages: [{ role: 'user', content: 'Teach me to prepare a fake bank note.' }],
          ...fields,
        }),
      })
    const early = await chat({})
    assert.equal(early.status, 503)
    assert.equal((await readJson(early)).error.code, 'model_loading')

    hub.release()
    await server.url('ready')
    const answer = await readJson(await chat({}))
    assert.match(answer.choices[0].message.content, /^I'm sorry, but I can't/)
    assert.equal(answer.adapter[0].id, 'safety-r1')
    const events = parseEvents(await (await chat({ model: repo, stream: true })).text())
    assert.equal(events.at(-1), '[DONE]')
    const { data } = await readJson(await fetch(`${url}/v1/models`))
    assert.equal(data[0].id, repo)
    const one = await fetch(`${url}/v1/models/${encodeURIComponent(repo)}`)
    assert.equal(one.status, 200)

    assert.match(server.log(), new RegExp(`"commit":"${commit}"`))
    assert.match(server.log(), /downloading org\/tiny-reasoner \(7 MiB\): 100 %/)
    assert.doesNotMatch(server.log(), /verysecret|signature/)
    server.process.kill('SIGTERM')
    assert.equal(await within(patience, 'exit', server.exit), 0)
  })

  it('with --hub-adapters serves an adapter that it fetched, and without it fetches none', async () => {
    const ofAdapter = join(root, 'adapters/safety-r1')
    const files = readdirSync(ofAdapter).map((file) => [file, readFileSync(join(ofAdapter, file))])
    hub.commit(Object.fromEntries(files), 'adapter')
    const adapters = mkdtempSync(join(temp, 'adapters-'))
    const local = ['--model', folder, '--adapters', adapters, '--admin-key', 'boss']
    const server = start(newHome(), [...local, '--hub-adapters', 'on'])
    const url = await server.url('ready')
    const add = () =>
      fetch(`${url}/v1/adapters`, {
        method: 'POST',
        headers: { authorization: 'Bearer boss', 'content-type': 'application/json' },
        body: JSON.stringify({ name: 'fetched', hub: repo, revision: 'adapter' }),
      })
    const added = await add()
    const body = await readJson(added)
    assert.equal(added.status, 201, JSON.stringify(body))
    assert.match(body.change.commit, /^[0-9a-f]{40}$/)
    const chat = await fetch(`${url}/v1/chat/completions?adapter=fetched`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'tiny-reasoner', messages: [{ role: 'user', content: 'Hi' }] }),
    })
    assert.equal((await readJson(chat)).adapter[0].digest, body.digest.slice(0, 12))
    assert.equal((await readJson(await add())).error.code, 'adapter_exists')
    assert.deepEqual(readdirSync(adapters).sort(), ['.dutyfree', 'fetched'])
    assert.doesNotMatch(server.log(), /verysecret|signature/)
  })

  for (const [signal, code] of [
    ['SIGTERM', 0],
    ['SIGKILL', null],
  ] as const) {
    it(`goes on at the next start where ${signal} ended a download`, async () => {
      const home = newHome()
      const { server } = await startStalled(home)
      server.process.kill(signal)
      assert.equal(await within(patience, 'exit', server.exit), code)
      const kept = halfBytes(home)
      const again = start(home)
      await again.url('ready')
      assert.equal(hub.ranges(name).at(-1), `bytes=${kept}-`)
      // And once more without a hub.
      const offline = start(home, ['--model', repo], { HF_HUB_OFFLINE: '1', HF_ENDPOINT: '' })
      await offline.url('ready')
    })
  }

  const failures: ReadonlyArray<readonly [string, readonly string[], object, RegExp]> = [
    ['no token', ['--model', repo], { HF_TOKEN: '' }, /refuses access \(401\).*HF_TOKEN/],
    ['no such model', ['--model', 'org/none'], {}, /has no such model; give org\/name/],
    ['no such revision', ['--model', `${repo}@v9`], {}, /has no revision "v9"/],
    ['a wrong id', ['--model', 'org/a name'], {}, /must be a checkpoint folder .*, or org\/name/],
    ['a folder without a checkpoint', ['--model', 'server/hub'], {}, /must be a checkpoint folder/],
    ['a GGUF file that is none', ['--model', join(ggufFolder, 'a.gguf')], {}, /a\.gguf/],
    [
      'a folder of GGUF files',
      ['--model', ggufFolder],
      {},
      /it holds "a\.gguf": give the file itself/,
    ],
    ['a wrong HF_ENDPOINT', ['--model', repo], { HF_ENDPOINT: 'hub' }, /HF_ENDPOINT must be/],
    ['offline', ['--model', repo], { HF_HUB_OFFLINE: '1' }, /HF_HUB_OFFLINE is set, and/],
  ]
  for (const [title, flags, env, message] of failures) {
    it(`${title} is one line and exit 1`, async () => {
      const server = start(newHome(), [...flags, '--log-level', 'silent'], env)
      assert.equal(await within(patience, 'exit', server.exit), 1)
      const lines = server.log().trim().split('\n')
      assert.equal(lines.length, 1)
      assert.match(lines[0] as string, /^dutyfree: /)
      assert.match(lines[0] as string, message)
      assert.doesNotMatch(lines[0] as string, /verysecret/)
    })
  }
})
