// Requests for every adapter and for one that is replaced again and again, while the runner uploads,
// replaces and removes adapters (runner/adapter-changes.mjs): whichever version an answer attests, its
// text is that version's.

import { askInTurn, calmThresholds, openArrivals } from './shared/ask.js'

export { handleSummary } from './shared/summary.js'

export const options = { scenarios: { change: openArrivals() }, thresholds: calmThresholds }

export default () => askInTurn()
