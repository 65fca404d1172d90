// Frames on the pipe between front and engine: whole messages however the bytes are cut, and an error at
// the first byte that is of no message.

import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, it } from 'node:test'
import {
  createFrameReader,
  encodeFrame,
  maxFrameBytes,
  openMessagePipe,
} from '../server/engine-client/message-pipe.ts'

const messages = [
  { kind: 'cancel', id: 'ä€😀' },
  { seed: 2n ** 64n - 1n, words: Float64Array.of(1, 2.5), ids: new Int32Array(3) },
  null,
  ['', 'x'.repeat(100_000)],
]
const frames = messages.map(encodeFrame)

function readChunks(chunks: readonly Buffer[]): unknown[] {
  const all: unknown[] = []
  const read = createFrameReader((message) => all.push(message))
  for (const chunk of chunks) read(chunk)
  return all
}

function cut(bytes: Buffer, size: number): Buffer[] {
  const count = Math.ceil(bytes.length / size)
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
}

describe('frames', () => {
  for (const size of [1, 7, 8, 9, 4096, 1 << 20]) {
    it(`give the same messages in chunks of ${size} bytes`, () => {
      assert.deepEqual(readChunks(cut(Buffer.concat(frames), size)), messages)
    })
  }

  it('are told as soon as they are whole, and not before', () => {
    const [first, second] = frames
    assert.deepEqual(readChunks([Buffer.concat([first!, second!.subarray(0, -1)])]), [messages[0]])
  })

  it('of no message throw, wherever they begin', () => {
    for (const before of [[], [frames[0]!]]) {
      const garbage = Buffer.concat([...before, Buffer.from('*** Error in native code ***')])
      assert.throws(() => readChunks([garbage]), /bytes that are no message/)
    }
  })

  it('with a damaged message or length throw', () => {
    const damaged = Buffer.from(frames[1]!).fill(0xff, 10)
    assert.throws(() => readChunks([damaged]))
    const long = Buffer.from(frames[0]!)
    long.writeUInt32LE(maxFrameBytes + 1, 4)
    assert.throws(() => readChunks([long]), /a message of \d+ bytes/)
  })

  it('cannot be made of what cannot be cloned, or is too long', () => {
    assert.throws(() => encodeFrame(() => {}))
    assert.throws(() => encodeFrame(Buffer.alloc(maxFrameBytes + 1)), /too long/)
  })
})

it('a pipe that brought nonsense is told of once, and read no more', () => {
  const stream = new PassThrough()
  const told: unknown[] = []
  const broken: unknown[] = []
  openMessagePipe(stream, {
    onMessage: (message) => told.push(message),
    onBroken: (error) => broken.push(error),
    onClosed() {},
  })
  for (const bytes of [frames[0]!, Buffer.alloc(8), Buffer.alloc(8), frames[0]!]) {
    stream.emit('data', bytes)
  }
  assert.deepEqual(told, [messages[0]])
  assert.equal(broken.length, 1)
})
