// fetch as the hub needs it: the token to the hub's own origin only, failures as HubFailure, and an end
// when the server stops. The library's calls run through it too.

import { HubFailure } from './failure.ts'
import type { HubSettings } from './settings.ts'

export type HubFetch = typeof fetch

export interface HubFetchOptions {
  readonly settings: Pick<HubSettings, 'endpoint' | 'token'>
  readonly signal: AbortSignal
}

/** Answers are of status 2xx; everything else is thrown. */
export function createHubFetch({ settings, signal }: HubFetchOptions): HubFetch {
  const { origin } = new URL(settings.endpoint)
  return async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input)
    const headers = new Headers(init.headers)
    // A listing's next page may lie anywhere. Redirects: fetch drops the header at another origin.
    if (settings.token !== null && url.origin === origin) {
      headers.set('authorization', `Bearer ${settings.token}`)
    }
    const signals = init.signal ? [signal, init.signal] : [signal]
    const response = await fetch(url, { ...init, headers, signal: AbortSignal.any(signals) })
    if (response.ok) return response
    await response.body?.cancel()
    throw new HubFailure({
      status: response.status,
      reason: response.headers.get('x-error-code'),
      retryAfterMs: parseRetryAfter(response.headers.get('retry-after')),
    })
  }
}

/** The seconds form; the date form is rare, and then our own backoff does. */
function parseRetryAfter(text: string | null): number | null {
  return text !== null && /^\d{1,6}$/.test(text) ? Number(text) * 1000 : null
}
