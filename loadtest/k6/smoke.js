// Does the server answer, streaming and not, at a gentle rate? Asks the base only.

import { askBase, calmThresholds, openArrivals } from './shared/ask.js'

export { handleSummary } from './shared/summary.js'

export const options = { scenarios: { smoke: openArrivals() }, thresholds: calmThresholds }

export default askBase
