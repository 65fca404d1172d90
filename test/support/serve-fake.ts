// The real front in a process of its own over a fake engine, for tests of signals and exit codes:
//   node dist/test/support/serve-fake.js <port> [admin port]
// A chat whose model is "tiny" is answered; with "stop": "hang" it runs until it is cancelled, with
// "stop": "signal" it is half said when SIGTERM comes, and ends after it. The admin key is "boss".

import { once } from 'node:events'
import { createMetrics } from '../../server/metrics/registry.ts'
import { serve } from '../../server/serve.ts'
import {
  accepted,
  answer,
  createFakeEngine,
  delta,
  done,
  finished,
  hang,
  type Script,
} from './fake-engine.ts'
import { testConfig } from './front.ts'

const signalled = once(process, 'SIGTERM')
const untilSignal: Script = async function* (request) {
  yield accepted(request)
  yield delta(0, 'content', 'before')
  await signalled
  yield delta(0, 'content', ' and after')
  yield finished(0)
  yield done
}
const scripts: Readonly<Record<string, Script>> = {
  hang: hang({ accept: true }),
  signal: untilSignal,
}

const engine = createFakeEngine({
  script: (request, signal) => (scripts[request.sampling.stop[0] ?? ''] ?? answer)(request, signal),
})
const [port, adminPort] = process.argv.slice(2)
const say = (fields: object, message: string) => console.log(JSON.stringify({ message, ...fields }))
const metrics = createMetrics()
try {
  await serve({
    config: {
      ...testConfig,
      port: Number(port),
      drainTimeout: 60_000,
      ...(adminPort === undefined ? {} : { adminPort: Number(adminPort), adminKey: 'boss' }),
    },
    engine,
    metrics,
    observer: metrics,
    logger: { debug() {}, info: say, warn: say, error: say },
    version: '0.0.0-test',
  })
  process.exit(0)
} catch (error) {
  console.error((error as Error).message)
  process.exit(1)
}
