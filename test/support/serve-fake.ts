// The real front in a process of its own over a fake engine, for tests of signals and exit codes:
//   node dist/test/support/serve-fake.js <port>
// A chat whose model is "tiny" is answered; with "stop": "hang" it runs until it is cancelled.

import { createMetrics } from '../../server/metrics/registry.ts'
import { serve } from '../../server/serve.ts'
import { answer, createFakeEngine, hang } from './fake-engine.ts'
import { testConfig } from './front.ts'

const engine = createFakeEngine({
  script: (request, signal) =>
    request.sampling.stop.includes('hang')
      ? hang({ accept: true })(request, signal)
      : answer(request, signal),
})
const say = (fields: object, message: string) => console.log(JSON.stringify({ message, ...fields }))
try {
  await serve({
    config: { ...testConfig, port: Number(process.argv[2]), drainTimeout: 60_000 },
    engine,
    metrics: createMetrics(),
    logger: { debug() {}, info: say, warn: say, error: say },
    version: '0.0.0-test',
  })
  process.exit(0)
} catch (error) {
  console.error((error as Error).message)
  process.exit(1)
}
