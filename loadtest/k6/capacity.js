// What the server can do: always twice as many requests under way as it runs at once.

import { askInTurn, thresholds } from './shared/ask.js'

export { handleSummary } from './shared/summary.js'

export const options = {
  scenarios: {
    capacity: {
      executor: 'constant-vus',
      vus: Number(__ENV.VUS),
      duration: __ENV.DURATION,
      gracefulStop: '60s',
    },
  },
  thresholds,
}

export default () => askInTurn()
