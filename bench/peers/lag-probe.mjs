// Loaded into the server by --import, and by its engine's process, which inherits the flag. SIGUSR2 begins
// and ends a measurement of how late timers of 1 ms come; each signal prints what there is, in
// milliseconds, with a number that counts up and the process. Between measurements there are no such
// timers: they cost a process 1,000 turns of its loop a second.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const resolution = 1

if (isMainThread) {
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
    process.stderr.write(`${JSON.stringify({ pid: process.pid, eventLoopLag })}\n`)
    delay.reset()
    // True only where it was not enabled before.
    if (!delay.enable()) delay.disable()
  })
}
