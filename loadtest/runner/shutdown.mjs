// SIGTERM while the batch is full and as many requests wait: every stream must come to its own end, new
// requests are turned away, and the process exits with 0 within the drain time.

import { streamChat } from './chat-client.mjs'
import { bodyOf } from './references.mjs'

const numStreams = 16
const numRunning = 8
const mostTokens = 400
const fewestTokens = 24
/** Of work in the server at the signal: what does not fit the drain time is cut rightly. */
const workSeconds = 10

/** Stops the server, whose capacity is given where it is known; gives {numStreams, numWhole, seconds, exitCode, newcomer, errors}. */
export async function shutDownUnderLoad({ url, server, references, tokensPerSecond }) {
  const fitting = Math.floor(((tokensPerSecond ?? Infinity) * workSeconds) / numStreams)
  const maxTokens = Math.min(mostTokens, Math.max(fewestTokens, fitting))
  const { targets, prompts } = references
  const accepted = countdown(numStreams)
  const running = countdown(numRunning)
  const streams = Array.from({ length: numStreams }, (_, index) => {
    let isFirst = true
    return streamChat({
      url,
      target: targets[index % targets.length],
      body: {
        ...bodyOf(references, index % prompts.length),
        max_tokens: maxTokens,
        ignore_eos: true,
      },
      on: {
        accepted: accepted.take,
        text() {
          if (isFirst) running.take()
          isFirst = false
        },
      },
    })
  })
  // What the server has not taken by the signal is new to it.
  await Promise.race([Promise.all([accepted.done, running.done]), Promise.all(streams)])
  const startMs = performance.now()
  const stopped = server.stop()
  const seconds = () => (performance.now() - startMs) / 1000
  const newcomer = await comeDuringDrain(url, bodyOf(references, 0))
  const ends = await Promise.all(streams)
  const isWhole = ({ end, finish, usage }) =>
    end === 'answered' && finish === 'length' && usage?.completion_tokens === maxTokens
  const exitCode = await stopped
  return {
    numStreams,
    numWhole: ends.filter(isWhole).length,
    errors: [...new Set(ends.filter((end) => !isWhole(end)).map(reasonOf))],
    seconds: seconds(),
    exitCode,
    newcomer,
  }
}

function reasonOf({ end, status, finish, failure, error }) {
  return `${end}, status ${status}: ${error ?? failure ?? `finish_reason ${finish}`}`
}

/** `done` resolves at the `count`th call of `take`. */
function countdown(count) {
  let left = count
  let resolve
  const done = new Promise((resolved) => {
    resolve = resolved
  })
  const take = () => {
    if (--left === 0) resolve()
  }
  return { done, take }
}

/** What a request gets that comes after the signal: its status, or "connection refused". */
async function comeDuringDrain(url, body) {
  for (let turn = 0; turn < 50; turn++) {
    const { status } = await streamChat({ url, target: 'none', body })
    // The signal may still be on its way.
    if (status !== 200) return status ?? 'connection refused'
  }
  return 'answered'
}
