// The Node client beside k6: streams with open arrivals, which measure what k6 cannot, the time to the
// first token and between tokens. Each answer is compared with its reference.

import { guestName } from './adapter-changes.mjs'
import { streamChat } from './chat-client.mjs'
import { bodyOf } from './references.mjs'

/**
 * Starts them; `stop` ends the arrivals and resolves to {records, gaps, gapEnds} once all have ended: the
 * gaps, and the seconds at which each ended. With
 * `changes` the guest is asked too, and a version counts only where it may have been in force.
 */
export function startStreams({ url, references, perSecond, changes }) {
  const { prompts } = references
  const targets = changes === undefined ? references.targets : [...references.targets, guestName]
  const startMs = performance.now()
  const under = new Set()
  const records = []
  const gaps = []
  const gapEnds = []
  let turn = 0

  async function one() {
    const target = targets[turn % targets.length]
    const promptIndex = Math.floor(turn / targets.length) % prompts.length
    turn++
    const fromMs = performance.now()
    const body = bodyOf(references, promptIndex)
    const result = await streamChat({ url, target, body })
    const { ms, firstMs, gaps: own } = result
    const toMs = fromMs + (firstMs ?? ms)
    const allows = (digest) => changes?.allows(target, digest, fromMs, toMs) ?? true
    const end = endOf(result, changes !== undefined && allows(null))
    if (end === 'answered') {
      let atMs = fromMs - startMs + firstMs
      for (const gap of own) {
        atMs += gap
        gaps.push(gap)
        gapEnds.push(atMs / 1000)
      }
    }
    if (end === 'lost') console.error(`\nstreams: lost: ${howLost(result)} (${target})`)
    const isWrong =
      end === 'answered' && !isRight({ references, target, promptIndex }, result, allows)
    records.push({ atSeconds: (fromMs - startMs) / 1000, target, end, ms, firstMs, isWrong })
  }

  const timer = setInterval(() => {
    const stream = one().finally(() => under.delete(stream))
    under.add(stream)
  }, 1000 / perSecond)

  return {
    get numFailed() {
      return records.filter(({ end, isWrong }) => end === 'lost' || isWrong).length
    },
    async stop() {
      clearInterval(timer)
      await Promise.all(under)
      return { records, gaps, gapEnds }
    },
  }
}

/** What is known of an answer that did not come whole. */
const howLost = ({ error, status, failure, ms }) =>
  error ?? (status === 200 ? `cut short after ${ms.toFixed(0)} ms` : `${status} ${failure}`)

/** `absent` is 404 for an adapter that may have been out of service then. */
const endOf = ({ end, status }, mayBeAbsent) => (status === 404 && mayBeAbsent ? 'absent' : end)

function isRight({ references, target, promptIndex }, { text, applied }, allows) {
  if (target === 'none')
    return applied?.length === 0 && text === references.answers.none[promptIndex]
  const [{ id, digest } = {}, ...others] = applied ?? []
  if (id !== target || others.length > 0) return false
  const fixed = references.answers[target]
  if (fixed !== undefined) return text === fixed[promptIndex]
  const known = Object.keys(references.byDigest).find((each) => each.startsWith(digest))
  return text === references.byDigest[known]?.[promptIndex] && allows(digest)
}
