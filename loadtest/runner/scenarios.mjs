// The load tests by name. A rate is either fixed or a share of the capacity that is measured first.

/**
 * `thoughtTokens` are the lengths of the answers; `maxQueue` is a flag of the server that is started.
 * `changes` has adapters change every `everyMs`, with `numBad` uploads that must be refused beside, and an
 * adapter merged or unmerged every `mergeEveryMs`. `streamsPerSecond` come from the Node client and are
 * part of the rate. `endsInShutdown` sends SIGTERM under load at the end, to a server that the runner
 * started. `bounds` are milliseconds.
 */
export const scenarios = {
  smoke: { rate: 2, seconds: 20, streamsPerSecond: 0.5 },
  chat: {
    share: 0.5,
    seconds: 60,
    streamsPerSecond: 1,
    bounds: { answerP95: 2000, firstTokenP95: 500, betweenTokensP95: 100 },
  },
  'adapter-switch': { share: 0.7, seconds: 60, streamsPerSecond: 1 },
  'change-under-load': {
    share: 0.6,
    seconds: 60,
    streamsPerSecond: 2,
    changes: { everyMs: 400, mergeEveryMs: 6000, numBad: 50 },
    endsInShutdown: true,
  },
  spike: {
    share: 10,
    seconds: 20,
    streamsPerSecond: 0.5,
    bounds: { refusedMedian: 50 },
    // A reasoning model's answers are long. The short ones of the other tests would make ten times the
    // capacity a thousand requests a second, and k6 alone would take one of two cores for them.
    thoughtTokens: [300, 500],
    maxQueue: 32,
  },
  disconnects: { share: 0.6, seconds: 60, streamsPerSecond: 1, endsInShutdown: true },
  soak: {
    share: 0.8,
    seconds: 600,
    streamsPerSecond: 0.5,
    changes: { everyMs: 2000, mergeEveryMs: 30_000, numBad: 50 },
    endsInShutdown: true,
  },
}

/** Seconds of calm before the spike and after it. */
export const calmSeconds = 10
/** Of the measurement of capacity, and its start that does not count. */
export const capacitySeconds = 20
export const capacityWarmUpSeconds = 4
