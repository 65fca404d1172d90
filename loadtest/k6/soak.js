// Long, at four fifths of the measured capacity: adapters in turn, and some clients that leave early. A
// machine that others use falls below its capacity for a while: a few may be refused then, none is lost.

import { askInTurn, calmThresholds, openArrivals } from './shared/ask.js'

export { handleSummary } from './shared/summary.js'

const rate = Number(__ENV.RATE)
const leaving = 0.05
const maxRefused = Math.floor(0.05 * rate * Number.parseInt(__ENV.DURATION, 10))

export const options = {
  scenarios: {
    stay: { ...openArrivals(rate * (1 - leaving)), exec: 'stay' },
    leave: { ...openArrivals(rate * leaving), exec: 'leave' },
  },
  thresholds: { ...calmThresholds, refused: [`count<=${maxRefused}`], left: ['count>0'] },
}

export const stay = () => askInTurn()

export const leave = () => askInTurn({ leaveAfterMs: 1 + Math.floor(Math.random() * 400) })
