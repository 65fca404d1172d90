// Every second client leaves early: before the first token, or in the middle of its stream. Those that
// stay are answered as if nothing had been.

import { askInTurn, calmThresholds, openArrivals } from './shared/ask.js'

export { handleSummary } from './shared/summary.js'

const rate = Number(__ENV.RATE)
const longestStayMs = 400

export const options = {
  scenarios: {
    stay: { ...openArrivals(rate / 2), exec: 'stay' },
    leave: { ...openArrivals(rate / 2), exec: 'leave' },
  },
  thresholds: { ...calmThresholds, left: ['count>0'] },
}

export const stay = () => askInTurn()

export const leave = () =>
  askInTurn({ leaveAfterMs: 1 + Math.floor(Math.random() * longestStayMs) })
