// How much a key may have under way, and how many tokens it may spend in a minute. Tokens are booked when a
// request ends, prompt and answer together: a key may overdraw with what it has under way, and then waits.

import { ServerError } from '../errors.ts'
import type { Key } from './key.ts'

interface Account {
  numUnderWay: number
  /** Tokens that may be spent; below zero they are owed. */
  tokens: number
  readAtMs: number
}

export interface KeyTicket {
  spend(tokens: number): void
  /** Idempotent. */
  release(): void
}

export interface KeyLimits {
  /** Throws rate_limit_exceeded with Retry-After. null: nobody's key. */
  enter(key: Key | null): KeyTicket
}

const freeTicket: KeyTicket = { spend() {}, release() {} }

export function createKeyLimits(monotonicMs: () => number): KeyLimits {
  const accounts = new Map<string, Account>()

  function accountOf({ name, tokensPerMinute }: Key): Account {
    const nowMs = monotonicMs()
    const full = tokensPerMinute ?? 0
    const account = accounts.get(name) ?? { numUnderWay: 0, tokens: full, readAtMs: nowMs }
    const earned = ((nowMs - account.readAtMs) / 60_000) * full
    account.tokens = Math.min(full, account.tokens + earned)
    account.readAtMs = nowMs
    accounts.set(name, account)
    return account
  }

  return {
    enter(key) {
      if (key === null || (key.maxConcurrent ?? key.tokensPerMinute) === null) return freeTicket
      const account = accountOf(key)
      const { maxConcurrent, tokensPerMinute } = key
      if (maxConcurrent !== null && account.numUnderWay >= maxConcurrent) {
        throw refusal(`${account.numUnderWay} requests of this key run, its limit`, 1)
      }
      if (tokensPerMinute !== null && account.tokens <= 0) {
        const seconds = ((1 - account.tokens) / tokensPerMinute) * 60
        throw refusal(`this key has spent its ${tokensPerMinute} tokens a minute`, seconds)
      }
      account.numUnderWay++
      let isReleased = false
      return {
        spend(tokens) {
          accountOf(key).tokens -= tokens
        },
        release() {
          if (isReleased) return
          isReleased = true
          account.numUnderWay--
        },
      }
    },
  }
}

function refusal(what: string, seconds: number): ServerError {
  return new ServerError('rate_limit_exceeded', `${what} (--keys-file); try again later`, {
    headers: { 'retry-after': String(Math.min(3600, Math.max(1, Math.ceil(seconds)))) },
  })
}
