// Requests alternate between the base and every adapter that the server lists, so that neighbours in
// one batch differ: adapters of neighbours leave no trace in an answer.

import { askInTurn, calmThresholds, openArrivals } from './shared/ask.js'

export { handleSummary } from './shared/summary.js'

export const options = { scenarios: { switch: openArrivals() }, thresholds: calmThresholds }

export default () => askInTurn()
