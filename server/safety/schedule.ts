// When a request is judged: at which tokens of its reply, in their order. Pure, and a function of the
// request's own tokens alone: company decides how late a verdict is computed, never where.
//
// After the prompt; after every `every` tokens of the reply; right after the token that ends the
// thought; where the probe rises over its threshold; and at the reply's end, over all tokens that have
// text. Places that fall together are one.

import type { JudgedPart } from '../contracts/safety.ts'

export interface DueVerdict {
  readonly part: JudgedPart
  /** Tokens of the reply before it; 0: the prompt is judged. */
  readonly numTokens: number
  /** The largest that the probe told of any token since the verdict before. */
  readonly probe: number | null
  /** It waits for no company. */
  readonly isUrgent: boolean
}

export interface ScheduleOptions {
  readonly judgesInput: boolean
  readonly judgesReply: boolean
  readonly every: number
  /** From where a token's probe asks for a verdict; null: there is no probe. */
  readonly probeThreshold: number | null
}

export function createSchedule(options: ScheduleOptions) {
  const { judgesInput, judgesReply, every, probeThreshold } = options
  /** After a verdict the probe asks for none for so many tokens. */
  const probeRest = Math.max(1, Math.floor(every / 4))
  /** In the order of their tokens. */
  let due: DueVerdict[] = []
  /** Tokens of the reply at the last place, due or done. */
  let lastPlace = 0
  let probedTokens = -1
  let isAbove = false
  let largest: number | null = null

  function takeLargest(): number | null {
    const taken = largest
    largest = null
    return taken
  }

  function add(numTokens: number, part: JudgedPart, isUrgent = false): void {
    // What the probe tells of the last of these tokens comes with the step that computes it.
    const probe = numTokens <= probedTokens ? takeLargest() : null
    due.push({ numTokens, part, isUrgent, probe })
    lastPlace = numTokens
  }

  return {
    /** The next verdict to be given. */
    get head(): DueVerdict | undefined {
      return due[0]
    },
    /** The one after it. */
    get second(): DueVerdict | undefined {
      return due[1]
    },

    /** The prompt is there. */
    addPrompt(): void {
      if (judgesInput) add(0, 'input')
    },

    /** The reply has `numTokens` tokens, and goes on. `part`: of the last of them. */
    addToken(numTokens: number, part: JudgedPart, endsThought: boolean): void {
      if (judgesReply && (endsThought || numTokens % every === 0)) add(numTokens, part)
    },

    /** The reply has ended; `numTokens` of its tokens have text. */
    addEnd(numTokens: number, part: JudgedPart): void {
      if (judgesReply && numTokens > lastPlace) add(numTokens, part)
    },

    /** The reply's first `numTokens` tokens are computed, and this is what the probe says of the last. */
    addProbe(numTokens: number, score: number, part: JudgedPart): void {
      if (probeThreshold === null || numTokens <= probedTokens) return
      probedTokens = numTokens
      largest = Math.max(largest ?? 0, score)
      const wasAbove = isAbove
      isAbove = score >= probeThreshold
      const at = due.findIndex((verdict) => verdict.numTokens === numTokens)
      if (at >= 0) due[at] = { ...due[at]!, probe: takeLargest() }
      else if (judgesReply && isAbove && !wasAbove && numTokens >= lastPlace + probeRest) {
        add(numTokens, part, true)
      }
    },

    /** The head is given. Its last token may have no keys and values, and so no probe of its own. */
    take(): DueVerdict {
      const head = due.shift()!
      return head.numTokens > probedTokens ? { ...head, probe: takeLargest() } : head
    },

    /** Goes on after the first `numTokens` tokens of the reply, which were judged. */
    rewind(numTokens: number): void {
      due = []
      lastPlace = numTokens
      probedTokens = Math.min(probedTokens, numTokens)
      isAbove = false
      largest = null
    },
  }
}
