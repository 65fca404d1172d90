// Loaded into the server by --import. SIGUSR2 begins and ends a measurement of how late timers of 1 ms
// come; each signal prints what there is, in milliseconds, with a number that counts up. Between
// measurements there are no such timers: they cost the server 1,000 turns of its loop a second. The
// engine's process inherits --import and is left alone.

import { monitorEventLoopDelay } from 'node:perf_hooks'

const resolution = 1

if (process.send === undefined) {
  const delay = monitorEventLoopDelay({ resolution })
  let reading = 0
  const late = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - resolution)
  process.on('SIGUSR2', () => {
    const eventLoopLag = {
      reading: ++reading,
      p50: late(delay.percentile(50)),
      p99: late(delay.percentile(99)),
      max: late(delay.max),
    }
    process.stderr.write(`${JSON.stringify({ eventLoopLag })}\n`)
    delay.reset()
    // True only where it was not enabled before.
    if (!delay.enable()) delay.disable()
  })
}
