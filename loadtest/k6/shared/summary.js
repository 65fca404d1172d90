// k6's own summary as JSON for the runner, which makes the report of it.

export const handleSummary = (data) => ({ [__ENV.SUMMARY]: JSON.stringify(data) })
