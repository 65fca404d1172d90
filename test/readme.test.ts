// What the documents show of the server is real. docs/SESSION.md: each curl command, sent to the server
// as it is now, gets the answer that stands below it (but for the id and the time). README.md: each
// `ask` gets the thought and the answer that stand below it, through the README's own one-liner.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
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
  body(prompt: string): string
  show(answer: string): string
}

function readAsk(block: string): Ask {
  const path = /curl -s "http:\/\/127\.0\.0\.1:8000([^"]+)"/.exec(block)?.[1]
  const body = /-d "(.*)" \|$/m.exec(block)?.[1]?.replaceAll('\\"', '"')
  const program = /node -p '([^']+)'/.exec(block)?.[1]
  assert.ok(path !== undefined && body !== undefined && program !== undefined)
  return {
    path: (adapter) => path.replace('$1', adapter),
    body: (prompt) => body.replace('$2', prompt),
    show: (answer) =>
      execFileSync(process.execPath, ['-p', program], { input: answer, encoding: 'utf8' }),
  }
}

/** "$ ask <adapter> '<prompt>'", then the thought and the answer. */
function readAsked(block: string) {
  const pattern = /^\$ ask (\S+) '([^']+)'\n(thought: .*\nanswer: .*\n)/gm
  return [...block.matchAll(pattern)].map(([, adapter = '', prompt = '', shown = '']) => {
    return { adapter, prompt, shown }
  })
}

const withoutTime = ({ id: _, created: __, ...rest }: Record<string, unknown>) => rest

const cacheDir = createTempFolder()

describe('what the documents show of the server', () => {
  let server: RealServer
  before(async () => {
    server = await startServer(['--cache-dir', cacheDir])
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
      assert.deepEqual(withoutTime(got), withoutTime(answer))
    })
  }

  const shownInReadme = readBlock('README.md', 'exchanges')

  it('the README asks one prompt without an adapter and with one', () => {
    const asked = readAsked(shownInReadme)
    assert.deepEqual(
      asked.map(({ adapter }) => adapter),
      ['none', 'safety-r1'],
    )
    assert.equal(new Set(asked.map(({ prompt }) => prompt)).size, 1)
  })

  for (const { adapter, prompt, shown } of readAsked(shownInReadme)) {
    it(`README: ask ${adapter} '${prompt}'`, async () => {
      const ask = readAsk(shownInReadme)
      const response = await post(ask.path(adapter), ask.body(prompt))
      assert.equal(ask.show(await response.text()), shown)
    })
  }
})
