// Chats with open arrivals, with bounds on how long they take.

import { askBase, calmThresholds, openArrivals } from './shared/ask.js'

export { handleSummary } from './shared/summary.js'

export const options = {
  scenarios: { chat: openArrivals() },
  thresholds: { ...calmThresholds, answer_ms: [`p(95)<${__ENV.P95_MS}`] },
}

export default askBase
