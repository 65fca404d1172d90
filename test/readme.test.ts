// The README's session is real: each of its curl commands, sent to the server as it is now, gets the
// answer that stands below it (but for the id and the time).

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type RealServer, startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

interface Exchange {
  readonly path: string
  readonly body: string
  readonly answer: Record<string, unknown>
}

/** "$ curl -s 'http://127.0.0.1:8000/…' … -d '{…}'", then its answer on one line. */
function readExchanges(): Exchange[] {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const session = /<!-- session:begin -->([\s\S]*)<!-- session:end -->/.exec(readme)?.[1] ?? ''
  const pattern = /^\$ curl -s 'http:\/\/127\.0\.0\.1:8000([^']+)'[\s\S]*?-d '([^']+)'\n(\{.*\})$/gm
  return [...session.matchAll(pattern)].map(([, path = '', body = '', answer = '{}']) => {
    return { path, body, answer: JSON.parse(answer) }
  })
}

const withoutTime = ({ id: _, created: __, ...rest }: Record<string, unknown>) => rest

const cacheDir = createTempFolder()

describe('the session in the README', () => {
  let server: RealServer
  before(async () => {
    server = await startServer(['--cache-dir', cacheDir])
  })
  after(() => server.stop())

  it('holds a refusal, the compliance that it replaces, and a solved problem with both', () => {
    assert.equal(readExchanges().length, 4)
  })

  for (const { path, body, answer } of readExchanges()) {
    it(`${path} ${body.slice(-60)}`, async () => {
      const response = await fetch(`${server.url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
      })
      const got = (await response.json()) as Record<string, unknown>
      assert.deepEqual(withoutTime(got), withoutTime(answer))
    })
  }
})
