// One chat of the Node client: a stream with the time at which each piece of text came.

import { readEvents } from './events.mjs'

const key = process.env.DUTYFREE_API_KEY?.split(',')[0]
/** Connections end with their answer, so that those of this client do not count as the server's growth. */
export const headers = {
  connection: 'close',
  ...(key ? { authorization: `Bearer ${key}` } : {}),
}

/**
 * Resolves to what became of the request: {end, status, ms, firstMs, gaps, text, applied, finish, usage}.
 * `end` is answered, refused (429), left (after `leaveAfter` pieces) or lost; times are milliseconds.
 * `on.accepted` is called when the server has begun its answer, `on.text` at each piece of text.
 */
export async function streamChat({ url, target, body, leaveAfter = Infinity, on = {} }) {
  const startMs = performance.now()
  const since = () => performance.now() - startMs
  const leaving = new AbortController()
  const result = { end: 'lost', gaps: [], thought: '', content: '' }
  try {
    const response = await fetch(
      `${url}/v1/chat/completions?adapter=${encodeURIComponent(target)}`,
      {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
        signal: AbortSignal.any([leaving.signal, AbortSignal.timeout(120_000)]),
      },
    )
    result.status = response.status
    if (response.status !== 200) {
      const failure = (await response.text()).slice(0, 500)
      return { ...result, failure, end: response.status === 429 ? 'refused' : 'lost', ms: since() }
    }
    on.accepted?.()
    let lastMs
    let numPieces = 0
    for await (const data of readEvents(response.body)) {
      if (data === '[DONE]') {
        result.end = result.finish ? 'answered' : 'lost'
        continue
      }
      if (!take(JSON.parse(data), result)) continue
      const nowMs = since()
      if (lastMs === undefined) result.firstMs = nowMs
      else result.gaps.push(nowMs - lastMs)
      lastMs = nowMs
      on.text?.()
      if (++numPieces < leaveAfter) continue
      leaving.abort()
      return { ...result, end: 'left', ms: nowMs }
    }
  } catch (error) {
    result.error = `${error.message}${error.cause ? ` (${error.cause.message})` : ''}`
    result.end = 'lost'
  }
  const text = `${result.thought}|${result.content}`
  return { ...result, text, ms: since() }
}

/** Adds a chunk to the result; whether it brought text. */
function take(chunk, result) {
  if (chunk.error) throw new Error(chunk.error.message)
  result.usage = chunk.usage ?? result.usage
  result.applied = chunk.adapter ?? result.applied
  const { delta, finish_reason: finish } = chunk.choices[0] ?? { delta: {} }
  result.finish = finish ?? result.finish
  const { reasoning = '', content = '' } = delta
  result.thought += reasoning ?? ''
  result.content += content ?? ''
  return Boolean(reasoning || content)
}
