// OpenTelemetry, to a collector of the test's own: what it is told, and that neither its absence nor its
// failure is noticed by anybody else.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { after, beforeEach, describe, it } from 'node:test'
import { createMetrics } from '../server/metrics/registry.ts'
import { isConfigured, openTelemetry } from '../server/telemetry/telemetry.ts'
import { within } from './support/deadline.ts'
import {
  accepted,
  createFakeEngine,
  done,
  finished,
  guardedModel,
  type Script,
  verdict,
} from './support/fake-engine.ts'
import { createFront, goodChat } from './support/front.ts'

const names = [
  ...['OTEL_SDK_DISABLED', 'OTEL_LOGS_EXPORTER', 'OTEL_SERVICE_NAME', 'OTEL_RESOURCE_ATTRIBUTES'],
  ...['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_HEADERS', 'OTEL_EXPORTER_OTLP_TIMEOUT'],
  ...['OTEL_BLRP_SCHEDULE_DELAY', 'OTEL_EXPORTER_OTLP_PROTOCOL'],
]
beforeEach(() => {
  for (const name of names) delete process.env[name]
})

const closers: (() => void)[] = []
after(() => {
  for (const close of closers) close()
})

/** Its address. */
async function listen(handle: RequestListener): Promise<string> {
  const server = createServer(handle).listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

interface Batch {
  readonly path: string | undefined
  readonly key: string | string[] | undefined
  // biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
  readonly body: any
}

async function collector(
  answer: (response: ServerResponse) => void = (response) => void response.end('{}'),
) {
  const batches: Batch[] = []
  const url = await listen(async (request, response) => {
    const parts = await request.toArray()
    const body = JSON.parse(Buffer.concat(parts).toString())
    batches.push({ path: request.url, key: request.headers['x-key'], body })
    answer(response)
  })
  return { url, batches }
}

/** A front whose answers are told to what the variables name. */
async function observedFront(env: Readonly<Record<string, string>>, script: Script) {
  Object.assign(process.env, env)
  const warnings: string[] = []
  const ignore = () => {}
  const warn = (_: object, message: string) => void warnings.push(message)
  const logger = { debug: ignore, info: ignore, warn, error: ignore }
  const telemetry = await openTelemetry(process.env, { version: '1.2.3', logger })
  assert.ok(telemetry !== null)
  const engine = createFakeEngine({ script })
  engine.model = guardedModel
  const observer = telemetry.alongside(createMetrics())
  observer.engineReady(guardedModel)
  const front = createFront({ engine, observer })
  return { front, telemetry, warnings }
}

const judged: Script = async function* (request) {
  yield accepted(request)
  yield verdict(0, 'input', 0.25)
  yield verdict(0, 'output', 0.75, { scoredTokens: 3, certified: false })
  yield verdict(0, 'output', null)
  yield* [finished(0), done]
}

type Attribute = { key: string; value: Record<string, unknown> }
const toObject = (attributes: readonly Attribute[]) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

describe('without the variables of an exporter', () => {
  it('nothing is configured, nor where they say so', () => {
    const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }
    assert.equal(isConfigured({}), false)
    assert.equal(isConfigured({ OTEL_EXPORTER_OTLP_ENDPOINT: '' }), false)
    assert.equal(isConfigured({ ...endpoint, OTEL_SDK_DISABLED: 'TRUE' }), false)
    assert.equal(isConfigured({ ...endpoint, OTEL_LOGS_EXPORTER: 'none' }), false)
    assert.equal(isConfigured(endpoint), true)
    assert.equal(isConfigured({ OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: 'http://a/v1/logs' }), true)
    assert.equal(isConfigured({ OTEL_LOGS_EXPORTER: 'console,otlp' }), true)
  })

  it('nothing that would send is loaded', async () => {
    const logger = { debug() {}, info() {}, warn() {}, error() {} }
    assert.equal(await openTelemetry({}, { version: '1', logger }), null)
    const { cache } = createRequire(import.meta.url)
    assert.ok(!Object.keys(cache).some((path) => path.includes('@opentelemetry/sdk-logs')))
  })
})

describe('a collector', () => {
  it('is told each verdict and the usage of each request, and no text', async () => {
    const { url, batches } = await collector()
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: url,
      OTEL_EXPORTER_OTLP_HEADERS: 'x-key=secret',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    }
    const { front, telemetry } = await observedFront(env, judged)
    const response = await front.post('/v1/chat/completions', goodChat)
    const { id } = (await response.json()) as { id: string }
    await within(5000, 'end of telemetry', telemetry.close())

    const { cache } = createRequire(import.meta.url)
    assert.ok(Object.keys(cache).some((path) => path.includes('@opentelemetry/sdk-logs')))
    assert.deepEqual(
      batches.map(({ path, key }) => [path, key]),
      [['/v1/logs', 'secret']],
    )
    const [{ resource, scopeLogs }] = batches[0]!.body.resourceLogs
    const about = toObject(resource.attributes)
    assert.equal(about['service.name'], 'dutyfree')
    assert.equal(about['service.version'], '1.2.3')
    assert.equal(about['deployment.environment.name'], 'test')
    const records = scopeLogs[0].logRecords as { eventName: string; attributes: Attribute[] }[]
    const told = records.map(({ eventName, attributes }) => [eventName, toObject(attributes)])
    const ofResponse = {
      'gen_ai.response.id': id,
      'gen_ai.response.model': guardedModel.id,
      'dutyfree.adapter': 'none',
    }
    const ofVerdict = {
      ...ofResponse,
      'dutyfree.choice': 0,
      'dutyfree.guard': 'watch',
      'dutyfree.safety.threshold': 0.5,
    }
    const evaluation = 'gen_ai.evaluation.result'
    const [input, output, failed, operation] = told
    const score = 'gen_ai.evaluation.score'
    assert.deepEqual(input, [
      evaluation,
      {
        ...ofVerdict,
        'gen_ai.evaluation.name': 'safety.input',
        [`${score}.value`]: 0.25,
        [`${score}.label`]: 'safe',
        'dutyfree.safety.certified': true,
        'dutyfree.safety.scored_tokens': 0,
      },
    ])
    assert.deepEqual(output, [
      evaluation,
      {
        ...ofVerdict,
        'gen_ai.evaluation.name': 'safety.output',
        [`${score}.value`]: 0.75,
        [`${score}.label`]: 'unsafe',
        'dutyfree.safety.certified': false,
        'dutyfree.safety.scored_tokens': 3,
      },
    ])
    assert.equal(told.length, 4)
    const [, ofFailed] = failed as [string, Record<string, unknown>]
    assert.equal(ofFailed['error.type'], 'failed')
    assert.ok(!(`${score}.value` in ofFailed) && !(`${score}.label` in ofFailed))
    const [name, ofOperation] = operation as [string, Record<string, unknown>]
    assert.equal(name, 'gen_ai.client.inference.operation.details')
    assert.equal(ofOperation['gen_ai.operation.name'], 'chat')
    assert.ok(Number(ofOperation['gen_ai.usage.input_tokens']) > 0)
    assert.ok('gen_ai.usage.output_tokens' in ofOperation)
    assert.deepEqual(ofOperation['gen_ai.response.finish_reasons'], {
      values: [{ stringValue: 'stop' }],
    })
    const [{ content }] = goodChat.messages
    assert.ok(!JSON.stringify(batches).includes(JSON.stringify(content)))
  })

  const failing: Readonly<Record<string, () => Promise<string>>> = {
    'that nobody listens at': async () => 'http://127.0.0.1:1',
    'that refuses': async () => (await collector((response) => refuse(response))).url,
    'that never answers': async () => (await collector(() => {})).url,
    'that answers with garbage': async () =>
      (await collector((response) => void response.end('\u0000<html>'))).url,
  }
  function refuse(response: ServerResponse): void {
    response.writeHead(400)
    response.end()
  }
  for (const [title, open] of Object.entries(failing)) {
    it(`${title} harms no request, and holds up no end`, async () => {
      const env = {
        OTEL_EXPORTER_OTLP_ENDPOINT: await open(),
        OTEL_EXPORTER_OTLP_TIMEOUT: '500',
        OTEL_BLRP_SCHEDULE_DELAY: '1',
      }
      const { front, telemetry } = await observedFront(env, judged)
      for (let i = 0; i < 50; i++) {
        const response = await front.post('/v1/chat/completions', goodChat)
        assert.equal(response.status, 200)
        await response.text()
      }
      await within(5000, 'end of telemetry', telemetry.close())
    })
  }

  it('that fails is in the log once, not once an event', async () => {
    const { url } = await collector(refuse)
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_BLRP_SCHEDULE_DELAY: '1' }
    const { front, telemetry, warnings } = await observedFront(env, judged)
    for (let i = 0; i < 20; i++) await front.post('/v1/chat/completions', goodChat)
    await within(5000, 'end of telemetry', telemetry.close())
    assert.deepEqual(warnings, ['the OpenTelemetry collector took no events'])
  })

  it('that is spoken to in another protocol than ours is warned of', async () => {
    const { url } = await collector()
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }
    const { telemetry, warnings } = await observedFront(env, judged)
    await within(5000, 'end of telemetry', telemetry.close())
    assert.match(warnings.join(), /http\/json/)
  })
})
