// Ten times the measured capacity, well past the queue, between two calm spells of half of it. What is
// not answered is refused at once; what is answered is right; and afterwards all is as before.

import { askInTurn, openArrivals, thresholds } from './shared/ask.js'

export { handleSummary } from './shared/summary.js'

const capacity = Number(__ENV.CAPACITY)
const calmSeconds = Number(__ENV.CALM_SECONDS)
const spikeSeconds = Number(__ENV.SECONDS)
// The queue that the spike leaves is worked off first.
const drainSeconds = Number(__ENV.DRAIN_SECONDS)
/** At once: half a second's arrivals, which allows 429 ten times as long as it may take. */
const refusing = Math.max(40, Math.ceil(capacity * 5))
const calm = () => openArrivals(capacity / 2, `${calmSeconds}s`)
const after = `${calmSeconds + spikeSeconds + drainSeconds}s`

export const options = {
  scenarios: {
    before: calm(),
    spike: {
      ...openArrivals(capacity * 10, `${spikeSeconds}s`),
      // Those in the server, and those that are being refused. All are made before the start: making
      // one costs k6 the time of ten requests.
      preAllocatedVUs: Number(__ENV.IN_SERVER) + refusing,
      maxVUs: Number(__ENV.IN_SERVER) + refusing,
      gracefulStop: '120s',
      startTime: `${calmSeconds}s`,
    },
    after: { ...calm(), startTime: after },
  },
  thresholds: {
    ...thresholds,
    refused: ['count>0'],
    'refused{scenario:before}': ['count==0'],
    'refused{scenario:after}': ['count==0'],
    refused_ms: [`med<=${__ENV.REFUSED_MS}`],
    dropped_iterations: ['count==0'],
  },
}

export default () => askInTurn()
