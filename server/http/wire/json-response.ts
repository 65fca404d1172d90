// A whole answer as JSON. A small one is one text with its length; a large one is written while it is
// made, so that neither its making nor its size holds the server up.

import { jsonPieces } from './json-pieces.ts'
import { createPace, type Pace } from './pace.ts'

const blockLength = 1 << 16
const maxWhole = 1 << 18

export async function jsonResponse(
  value: object,
  headers: Readonly<Record<string, string>>,
): Promise<Response> {
  const all = { ...headers, 'content-type': 'application/json' }
  const pieces = jsonPieces(value)
  const pace = createPace()
  const begin = await takeText(pieces, maxWhole, pace)
  if (begin.isLast) return new Response(begin.text, { headers: all })
  return new Response(streamOf(begin.text, pieces, pace), { headers: all })
}

function streamOf(begin: string, pieces: Iterator<string>, pace: Pace): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  return new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode(begin)),
    async pull(controller) {
      const { text, isLast } = await takeText(pieces, blockLength, pace)
      controller.enqueue(encoder.encode(text))
      if (isLast) controller.close()
    },
  })
}

async function takeText(
  pieces: Iterator<string>,
  length: number,
  pace: Pace,
): Promise<{ readonly text: string; readonly isLast: boolean }> {
  let text = ''
  for (;;) {
    const { value, done } = pieces.next()
    if (done) return { text, isLast: true }
    text += value
    const rest = pace.step()
    if (rest !== undefined) await rest
    if (text.length >= length) return { text, isLast: false }
  }
}
