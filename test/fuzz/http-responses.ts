// The answers in what a connection sent back; what is no whole HTTP is an error.

import assert from 'node:assert/strict'

export interface RawResponse {
  readonly status: number
  readonly isJson: boolean
  readonly body: string
}

export function readResponses(text: string): RawResponse[] {
  const responses: RawResponse[] = []
  let rest = Buffer.from(text, 'utf8')
  while (rest.length > 0) {
    const end = rest.indexOf('\r\n\r\n')
    assert.ok(end >= 0, `headers without an end: ${rest.toString().slice(0, 200)}`)
    const head = rest.subarray(0, end).toString()
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1])
    assert.ok(status >= 100, `no status line: ${head.slice(0, 200)}`)
    rest = rest.subarray(end + 4)
    const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1]
    const isChunked = /\r\ntransfer-encoding: chunked/i.test(head)
    const body = isChunked ? readChunks() : takeBytes(length === undefined ? 0 : Number(length))
    if (status >= 200)
      responses.push({ status, isJson: /content-type: application\/json/i.test(head), body })
  }
  return responses

  function takeBytes(count: number): string {
    // A HEAD answer, or one that was cut, has fewer.
    const part = rest.subarray(0, count)
    rest = rest.subarray(part.length)
    return part.toString()
  }

  function readChunks(): string {
    let body = ''
    for (;;) {
      const end = rest.indexOf('\r\n')
      if (end < 0) return body
      const size = Number.parseInt(rest.subarray(0, end).toString(), 16)
      rest = rest.subarray(end + 2)
      body += takeBytes(size)
      rest = rest.subarray(2)
      if (size === 0) return body
    }
  }
}
