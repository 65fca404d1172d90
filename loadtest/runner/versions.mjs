// Which version of an adapter a request may have met, from when its changes were sent and answered; pure.

/**
 * A version is in force from some time after its change was sent until some time before the next one's
 * answer came. `digest` may be cut to its first digits.
 */
export function wasInForce(entries, digest, fromMs, toMs) {
  return entries.some((entry, index) => {
    const untilMs = entries[index + 1]?.doneMs ?? Number.POSITIVE_INFINITY
    const isSame = digest === null ? entry.digest === null : entry.digest?.startsWith(digest)
    return isSame && entry.sentMs <= toMs && untilMs >= fromMs
  })
}
