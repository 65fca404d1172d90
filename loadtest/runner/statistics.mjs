// Numbers of a run, pure.

/** The value below which a share of the values lies; undefined for none. */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
}

/** Increase per second of a counter between two times of the samples; undefined without two that have it. */
export function rateOf(samples, name, { from, to }) {
  const within = samples.filter(
    ({ atSeconds, [name]: value }) => value !== undefined && atSeconds >= from && atSeconds <= to,
  )
  const [first, last] = [within[0], within.at(-1)]
  if (first === undefined || last.atSeconds === first.atSeconds) return undefined
  return (last[name] - first[name]) / (last.atSeconds - first.atSeconds)
}

/** As `rateOf`, by the straight line: for a counter that goes up in steps. */
export const slopeOf = (samples, name, { from, to }) =>
  lineThrough(
    samples.filter(({ atSeconds }) => atSeconds >= from && atSeconds <= to),
    name,
  )?.perSecond

/**
 * The straight line through the samples: {perSecond, mean, error}; undefined for fewer than two. `error` is
 * the standard error of the slope, 0 where the line has nothing beside it.
 */
export function lineThrough(samples, name) {
  const points = samples.filter((sample) => sample[name] !== undefined)
  if (points.length < 2) return undefined
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length
  const middle = mean(points.map(({ atSeconds }) => atSeconds))
  const level = mean(points.map((sample) => sample[name]))
  let product = 0
  let square = 0
  for (const sample of points) {
    product += (sample.atSeconds - middle) * (sample[name] - level)
    square += (sample.atSeconds - middle) ** 2
  }
  const perSecond = product / square
  const beside = points.map(
    (sample) => sample[name] - level - perSecond * (sample.atSeconds - middle),
  )
  const spread = beside.reduce((sum, value) => sum + value ** 2, 0) / Math.max(1, points.length - 2)
  return { perSecond, mean: level, error: Math.sqrt(spread / square) }
}
