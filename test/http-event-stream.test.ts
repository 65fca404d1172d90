// Long events: written while they are made, with the framing and the back-pressure of short ones.

import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type EventWriter, streamEvents } from '../server/http/event-stream.ts'
import { each } from '../server/http/reply/lazy-list.ts'
import { LongJson } from '../server/http/reply/long-json.ts'

const keepAliveMs = 1000
const words = Array.from({ length: 40_000 }, (_, i) => `word ${i} é`)

/** Of the producers of a test. */
const ends: Promise<unknown>[] = []

// A keep-alive is switched off when its producer ends: not while another test has taken the timers.
afterEach(async () => {
  await Promise.allSettled(ends.splice(0))
  await nextTurn()
})

function stream(
  maxBufferedBytes: number,
  produce: (writer: EventWriter) => Promise<void>,
): ReadableStreamDefaultReader<Uint8Array> {
  return streamEvents({
    limits: { maxBufferedBytes, keepAliveMs, slowReaderMs: 60_000 },
    produce(writer) {
      const end = produce(writer)
      ends.push(end)
      return end
    },
    onGone() {},
    disconnect: () => false,
  }).getReader()
}

async function readBlocks(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string[]> {
  const blocks: string[] = []
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return blocks
    blocks.push(Buffer.from(value).toString())
  }
}

describe('a long event', () => {
  it('has the bytes of one JSON.stringify, in blocks', async () => {
    const reader = stream(1 << 20, async (writer) => {
      await writer.send({ a: 1 })
      await writer.send(new LongJson({ words: each(words, (word) => word) }))
      await writer.send('[DONE]')
    })
    const blocks = await readBlocks(reader)
    const long = `data: ${JSON.stringify({ words })}\n\n`
    assert.equal(blocks.join(''), `data: {"a":1}\n\n${long}data: [DONE]\n\n`)
    assert.ok(blocks.length > 8, `${blocks.length} blocks`)
    for (const block of blocks) assert.ok(block.length < 66_000, `a block of ${block.length}`)
  })

  it('is made no faster than it is read', async () => {
    let numMade = 0
    const reader = stream(1, async (writer) => {
      const list = each(words, (word) => {
        numMade++
        return word
      })
      await writer.send(new LongJson({ words: list }))
    })
    // A block beyond the one that was read may be under way.
    for (let block = 1; block <= 3; block++) {
      const { value } = await reader.read()
      assert.ok(value!.length >= 65_536)
      assert.ok(numMade < (block + 1) * 5000, `${numMade} words after ${block} blocks`)
    }
    await reader.cancel()
    assert.ok(numMade < words.length)
  })

  it('has no keep-alive inside', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] })
    const reader = stream(1 << 20, async (writer) => {
      const list = each(words, (word, i) => {
        if (i % 1000 === 0) t.mock.timers.tick(keepAliveMs)
        return word
      })
      await writer.send(new LongJson({ words: list }))
      t.mock.timers.tick(keepAliveMs)
    })
    const text = (await readBlocks(reader)).join('')
    assert.equal(text, `data: ${JSON.stringify({ words })}\n\n: keep-alive\n\n`)
  })

  it('of a reader that leaves ends in the middle', async () => {
    const reader = stream(1, (writer) =>
      writer.send(new LongJson({ words: each(words, (word) => word) })),
    )
    await reader.read()
    await reader.cancel()
    await assert.rejects(ends[0]!, /the client is gone/)
  })
})
