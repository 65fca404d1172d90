// Loaded into the server by --import: on SIGUSR2 it prints how late timers of 1 ms came since the last
// time, in milliseconds, with a number that counts up, and begins anew. The engine's process inherits
// --import and is left alone.

import { monitorEventLoopDelay } from 'node:perf_hooks'

const resolution = 1

if (process.send === undefined) {
  const delay = monitorEventLoopDelay({ resolution })
  delay.enable()
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
  })
}
