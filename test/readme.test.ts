// What the documents show of the server is real. docs/SESSION.md: each curl command, sent to the server
// as it is now, gets the answer that stands below it (but for the id and the time, and with two digits of
// a guard's scores). README.md: each `ask` gets the thought and the answer that stand below it, through the README's own
// one-liner. The changes of adapters run as they stand there, in bash with curl.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type RealServer, startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

function readBlock(file: string, name: string): string {
  const page = readFileSync(join(root, file), 'utf8')
  const block = new RegExp(`<!-- ${name}:begin -->([\\s\\S]*)<!-- ${name}:end -->`).exec(page)?.[1]
  assert.ok(block !== undefined, `${file} has no block "${name}"`)
  return block
}

interface Exchange {
  readonly path: string
  readonly body: string
  readonly answer: Record<string, unknown>
}

/** "$ curl -s 'http://127.0.0.1:8000/…' … -d '{…}'", then its answer on one line. */
function readExchanges(): Exchange[] {
  const session = readBlock('docs/SESSION.md', 'session')
  const pattern = /^\$ curl -s 'http:\/\/127\.0\.0\.1:8000([^']+)'[\s\S]*?-d '([^']+)'\n(\{.*\})$/gm
  return [...session.matchAll(pattern)].map(([, path = '', body = '', answer = '{}']) => {
    return { path, body, answer: JSON.parse(answer) }
  })
}

/** What `ask` is in the README: the request that curl sends, and the program that reads the answer. */
interface Ask {
  path(adapter: string): string
  body(prompt: string, safety: string): string
  show(answer: string): string
}

function readAsk(block: string): Ask {
  const path = /curl -s "http:\/\/127\.0\.0\.1:8000([^"]+)"/.exec(block)?.[1]
  const body = /-d "(.*)" \|$/m.exec(block)?.[1]?.replaceAll('\\"', '"')
  const program = /node -p '([^']+)'/.exec(block)?.[1]
  assert.ok(path !== undefined && body !== undefined && program !== undefined)
  return {
    path: (adapter) => path.replace('$1', adapter),
    body: (prompt, safety) => body.replace('$2', prompt).replace(/\$\{3:-null\}/, safety),
    show: (answer) =>
      execFileSync(process.execPath, ['-p', program], { input: answer, encoding: 'utf8' }),
  }
}

/** "$ ask <adapter> '<prompt>' '<safety>'", then what is printed. */
function readAsked(block: string) {
  const pattern =
    /^\$ ask (\S+) '([^']+)'(?: '([^']+)')?\n((?:thought: .*\n)?answer: .*\nunsafe: .*\n)/gm
  return [...block.matchAll(pattern)].map(([, adapter = '', prompt = '', safety, shown = '']) => {
    return { adapter, prompt, safety: safety ?? 'null', shown }
  })
}

/** Without what differs from run to run; a score's further digits differ from CPU to CPU. */
function comparable({ id: _, created: __, ...rest }: Record<string, unknown>): unknown {
  return JSON.parse(JSON.stringify(rest), (key, value) =>
    (key === 'score' || key === 'probe') && typeof value === 'number'
      ? Number(value.toFixed(2))
      : value,
  )
}

/** Functions, then "$ change …" with what is printed below each. */
function readChanges(block: string): {
  functions: string
  asked: [command: string, shown: string][]
} {
  const [, code = ''] = /```console\n([\s\S]*)```/.exec(block) ?? []
  const pieces = `\n${code}`.split('\n$ ').slice(1)
  const asked = pieces.filter((piece) => /^change /.test(piece))
  return {
    functions: pieces.filter((piece) => !asked.includes(piece)).join('\n'),
    asked: asked.map((piece) => {
      const [command = '', ...shown] = piece.trim().split('\n')
      return [command, shown.join('\n')]
    }),
  }
}

function hasShell(): boolean {
  const script = 'curl --version'
  return spawnSync('bash', ['-c', script], { stdio: 'ignore' }).status === 0
}

const cacheDir = createTempFolder()

describe('what the documents show of the server', () => {
  let server: RealServer
  before(async () => {
    // Changed by a test.
    const adapters = mkdtempSync(join(cacheDir, 'adapters-'))
    cpSync(join(root, 'adapters'), adapters, { recursive: true })
    const own = ['--adapters', adapters, '--admin-key', 'boss']
    server = await startServer(['--cache-dir', cacheDir, ...own])
  })
  after(() => server.stop())

  const post = (path: string, body: string) =>
    fetch(`${server.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })

  it('the session holds a refusal, the compliance that it replaces, and a solved problem with both', () => {
    assert.equal(readExchanges().length, 4)
  })

  for (const { path, body, answer } of readExchanges()) {
    it(`session: ${path} ${body.slice(-60)}`, async () => {
      const got = (await (await post(path, body)).json()) as Record<string, unknown>
      assert.deepEqual(comparable(got), comparable(answer))
    })
  }

  const shownInReadme = readBlock('README.md', 'exchanges')

  it('the README asks one prompt without an adapter, with one, blocked and escalated', () => {
    const asked = readAsked(shownInReadme)
    assert.deepEqual(
      asked.map(({ adapter, safety }) => [adapter, safety]),
      [
        ['none', 'null'],
        ['safety-r1', 'null'],
        ['none', '"block"'],
        ['none', '{"mode": "escalate", "adapter": "safety-r1"}'],
      ],
    )
    assert.equal(new Set(asked.map(({ prompt }) => prompt)).size, 1)
  })

  for (const { adapter, prompt, safety, shown } of readAsked(shownInReadme)) {
    it(`README: ask ${adapter} '${prompt}' '${safety}'`, async () => {
      const ask = readAsk(shownInReadme)
      const response = await post(ask.path(adapter), ask.body(prompt, safety))
      assert.equal(ask.show(await response.text()), shown)
    })
  }

  it('README: an adapter is uploaded, replaced, merged and deleted, as it stands there', {
    skip: !hasShell() && 'bash and curl are not both here',
  }, () => {
    const { functions, asked } = readChanges(readBlock('README.md', 'changes'))
    const outcomes = asked.map(([, shown]) => shown.split(' ')[0])
    assert.deepEqual(outcomes, ['added', 'replaced', 'merged', 'unmerged', 'deleted'])
    for (const [command, shown] of asked) {
      const script = `${functions}\n${command}`.replaceAll('http://127.0.0.1:8000', server.url)
      const printed = execFileSync('bash', ['-c', script], { cwd: root, encoding: 'utf8' })
      assert.equal(printed, `${shown}\n`, command)
    }
  })
})
