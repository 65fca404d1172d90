// The metrics page: it agrees with the table, it is what Prometheus reads, its labels are bounded.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { FinishedRequest, Observer } from '../server/contracts/observer.ts'
import { keyOf } from '../server/keys/key.ts'
import { type MetricDefinition, metricDefinitions } from '../server/metrics/definitions.ts'
import { createMetrics } from '../server/metrics/registry.ts'
import { fakeModel } from './support/fake-engine.ts'
import { createFront, goodChat } from './support/front.ts'
import { root } from './support/root.ts'

const finishedRequest: FinishedRequest = {
  adapter: 'safety-r1',
  responseId: 'chatcmpl-1',
  outcome: 'stop',
  promptTokens: 10,
  cachedTokens: 4,
  completionTokens: 6,
  maxTokens: 100,
  n: 2,
  e2eSeconds: 1,
  queueSeconds: 0.1,
  prefillSeconds: 0.2,
  decodeSeconds: 0.7,
}

const tellEverything = (observer: Observer) => {
  observer.engineReady({ ...fakeModel, merged: [{ id: 'a', digest: 'd'.repeat(64), scale: 1.5 }] })
  observer.engineState('ready')
  observer.engineStats({
    running: 2,
    waiting: 1,
    kvUsage: 0.25,
    runningAdapters: ['a', 'b'],
    waitingAdapters: ['c'],
    residentAdapters: 3,
    residentAdapterBytes: 300,
    pinnedAdapters: 1,
  })
  observer.engineRestarted('crashed')
  observer.engineReplaced('replaced')
  observer.mergeEnded('merged')
  observer.httpResponse({ route: '/v1/models', method: 'GET', status: 200, seconds: 0.01 })
  observer.clientDisconnected('mid_stream')
  observer.firstToken({ adapter: 'safety-r1', seconds: 0.05 })
  observer.interToken({ adapter: 'safety-r1', seconds: 0.02 })
  observer.requestFinished(finishedRequest)
  const said = { kind: 'verdict', index: 0, part: 'output', scoredTokens: 4, probe: null } as const
  const flagged = {
    ...said,
    score: 0.9,
    flagged: true,
    threshold: 0.5,
    certified: false,
    skipped: null,
  }
  const failed = { ...flagged, score: null, skipped: 'failed' } as const
  const response = { adapter: 'safety-r1', responseId: 'chatcmpl-1', index: 0, guard: 'judge' }
  for (const verdict of [flagged, failed]) observer.verdict({ ...response, verdict })
  observer.blocked({ adapter: 'safety-r1', part: 'output' })
  observer.escalated({ adapter: 'safety-r1' })
  observer.floorRefused('safety')
  observer.guardAsked({ outcome: 'timeout', seconds: 1 })
  observer.adapterChanged({ kind: 'upload', outcome: 'added' })
  observer.uploaded(1000)
  observer.keyUsed({ key: 'team-a', status: 200 })
  observer.keyTokens({ key: 'team-a', tokens: 16 })
}

interface Family {
  readonly help: string
  readonly type: string
  readonly samples: Array<{ name: string; labels: Record<string, string>; value: number }>
}

/** Reads the text format strictly: what this accepts, promtool accepts. */
const parsePage = (page: string): ReadonlyMap<string, Family> => {
  const families = new Map<string, Family>()
  let help = ''
  let current: Family | undefined
  assert.ok(page.endsWith('\n'))
  for (const line of page.split('\n')) {
    if (line === '') continue
    const helpLine = /^# HELP (\S+) (.+)$/.exec(line)
    const typeLine = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line)
    if (helpLine) help = helpLine[2] as string
    else if (typeLine) {
      assert.ok(!families.has(typeLine[1] as string), `one TYPE for ${typeLine[1]}`)
      current = { help, type: typeLine[2] as string, samples: [] }
      families.set(typeLine[1] as string, current)
    } else {
      const sample =
        /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)$/.exec(
          line,
        )
      assert.ok(sample, line)
      const labels = [...(sample[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)]
      const value = sample[3] === '+Inf' ? Number.POSITIVE_INFINITY : Number(sample[3])
      assert.ok(!Number.isNaN(value), line)
      current?.samples.push({
        name: sample[1] as string,
        labels: Object.fromEntries(labels.map(([, name, text]) => [name, text])),
        value,
      })
    }
  }
  return families
}

/** The table of docs/METRICS.md. */
function metricTable(): string {
  const rows = Object.entries(metricDefinitions).map(([name, { type, help, labels }]) => {
    const own = labels.filter((label) => label !== 'model_name' && label !== 'engine')
    return `| \`${name}\` | ${type} | ${own.map((label) => `\`${label}\``).join(', ')} | ${help} |`
  })
  return ['| name | type | labels | |', '| --- | --- | --- | --- |', ...rows, ''].join('\n')
}

describe('metrics', () => {
  it('docs/METRICS.md names each of them; UPDATE_DOCS=1 writes it', () => {
    const path = join(root, 'docs/METRICS.md')
    const block = /(<!-- metrics:begin -->\n)([\s\S]*)(<!-- metrics:end -->)/
    const page = readFileSync(path, 'utf8')
    if (process.env.UPDATE_DOCS) {
      writeFileSync(
        path,
        page.replace(block, (_, begin, __, end) => begin + metricTable() + end),
      )
    } else assert.equal(block.exec(page)?.[2], metricTable())
  })

  it('the page holds exactly the table: names, types, help, labels, buckets', async () => {
    const metrics = createMetrics()
    tellEverything(metrics)
    const families = parsePage(await metrics.render())
    assert.deepEqual([...families.keys()].sort(), Object.keys(metricDefinitions).sort())
    for (const [name, definition] of Object.entries(metricDefinitions)) {
      const { type, help, labels, buckets }: MetricDefinition = definition
      const family = families.get(name) as Family
      assert.equal(family.type, type, name)
      assert.equal(family.help, help, name)
      assert.ok(family.samples.length > 0, `${name} is told by someone`)
      const names = Object.keys(family.samples[0]?.labels ?? {}).filter((label) => label !== 'le')
      assert.deepEqual(names.sort(), [...labels].sort(), name)
      if (type === 'counter') assert.match(name, /_total$/)
      if (buckets) {
        const bounds = family.samples.flatMap(({ labels: { le } }) => (le ? [Number(le)] : []))
        assert.deepEqual(
          bounds.filter((bound) => Number.isFinite(bound)),
          buckets,
          name,
        )
      }
    }
  })

  it('counts what it is told', async () => {
    const metrics = createMetrics({ unixSeconds: () => 1234 })
    tellEverything(metrics)
    const page = await metrics.render()
    for (const line of [
      'vllm:num_requests_running{model_name="tiny",engine="0"} 2',
      'vllm:num_requests_waiting{model_name="tiny",engine="0"} 1',
      'vllm:kv_cache_usage_perc{model_name="tiny",engine="0"} 0.25',
      'vllm:lora_requests_info{max_lora="8",waiting_lora_adapters="c",running_lora_adapters="a,b"} 1234',
      'vllm:request_success_total{model_name="tiny",engine="0",finished_reason="stop"} 1',
      'vllm:generation_tokens_total{model_name="tiny",engine="0"} 6',
      'vllm:prefix_cache_hits_total{model_name="tiny",engine="0"} 4',
      'vllm:request_inference_time_seconds_sum{model_name="tiny",engine="0"} 0.8999999999999999',
      'dutyfree_requests_total{adapter="safety-r1",outcome="stop"} 1',
      'dutyfree_engine_ready 1',
    ]) {
      assert.ok(page.includes(`${line}\n`), line)
    }
  })

  it('shows only the present combination of adapters', async () => {
    const metrics = createMetrics()
    for (let i = 0; i < 10; i++) {
      metrics.engineStats({
        running: 1,
        waiting: 0,
        kvUsage: 0,
        runningAdapters: [`a${i}`],
        waitingAdapters: [],
        residentAdapters: 1,
        residentAdapterBytes: 100,
        pinnedAdapters: 0,
      })
    }
    const page = await metrics.render()
    assert.equal(page.match(/^vllm:lora_requests_info\{/gm)?.length, 1)
  })

  it('labels stay bounded whatever requests name', async () => {
    const metrics = createMetrics()
    for (let i = 0; i < 500; i++) metrics.requestFinished({ ...finishedRequest, adapter: `a${i}` })
    const page = await metrics.render()
    assert.equal(page.match(/^dutyfree_requests_total\{/gm)?.length, 51)
    assert.match(page, /^dutyfree_requests_total\{adapter="other",outcome="stop"\} 450$/m)

    const front = createFront()
    for (const path of ['/a', '/b', '/v1/models/x', '/v1/models/y']) await front.request(path)
    await front.request('/c', { method: 'BREW' })
    await front.post('/v1/chat/completions', { ...goodChat, model: 'made-up' })
    const routes = (await front.metrics.render()).match(/^dutyfree_http_requests_total\{.*$/gm)
    assert.deepEqual(routes?.sort(), [
      'dutyfree_http_requests_total{route="/v1/chat/completions",method="POST",status="404"} 1',
      'dutyfree_http_requests_total{route="/v1/models/:id",method="GET",status="404"} 2',
      'dutyfree_http_requests_total{route="unmatched",method="GET",status="404"} 2',
      'dutyfree_http_requests_total{route="unmatched",method="other",status="404"} 1',
    ])
    assert.doesNotMatch(await front.metrics.render(), /made-up/)
  })

  it('changes and keys are counted, names of keys up to a bound', async () => {
    const metrics = createMetrics()
    tellEverything(metrics)
    for (const [i, status] of [200, 429, 403, 404, 503].entries()) {
      metrics.keyUsed({ key: `k${i}`, status })
    }
    const page = await metrics.render()
    for (const line of [
      'dutyfree_adapter_changes_total{kind="upload",outcome="added"} 1',
      'dutyfree_upload_bytes_total 1000',
      'dutyfree_key_requests_total{key="team-a",outcome="ok"} 1',
      'dutyfree_key_requests_total{key="k1",outcome="limited"} 1',
      'dutyfree_key_requests_total{key="k2",outcome="forbidden"} 1',
      'dutyfree_key_requests_total{key="k3",outcome="client_error"} 1',
      'dutyfree_key_requests_total{key="k4",outcome="server_error"} 1',
      'dutyfree_key_tokens_total{key="team-a"} 16',
      'dutyfree_adapters_resident_bytes 300',
      'dutyfree_adapters_pinned 1',
    ]) {
      assert.ok(page.includes(`${line}\n`), line)
    }
    for (let i = 0; i < 500; i++) metrics.keyUsed({ key: `key-${i}`, status: 200 })
    const series = (await metrics.render()).match(/^dutyfree_key_requests_total\{/gm)
    assert.equal(series?.length, 201)
  })

  it('a chat with a key is counted under its name, a change under its kind', async () => {
    const keysOfFile = () => [keyOf('user', ['inference']), keyOf('boss', ['admin'])]
    const front = createFront({ config: { keysOfFile, adminKey: null } })
    const as = (key: string, more: RequestInit = {}) => ({
      ...more,
      headers: { authorization: `Bearer ${key}` },
    })
    await front.post('/v1/chat/completions', goodChat, as('user'))
    await front.request('/v1/adapters/terse', as('user', { method: 'DELETE' }))
    await front.request('/v1/adapters/terse', as('boss', { method: 'DELETE' }))
    await front.post('/v1/load_lora_adapter', { lora_name: 'x' }, as('boss'))
    const name = keyOf('user', []).name
    const requests = (outcome: string) =>
      front.metric(`dutyfree_key_requests_total{key="${name}",outcome="${outcome}"}`)
    assert.deepEqual([await requests('ok'), await requests('forbidden')], [1, 1])
    assert.equal(await front.metric(`dutyfree_key_tokens_total{key="${name}"}`), 11)
    const changes = (kind: string, outcome: string) =>
      front.metric(`dutyfree_adapter_changes_total{kind="${kind}",outcome="${outcome}"}`)
    // The fake engine adds whatever it is asked to do.
    assert.equal(await changes('remove', 'added'), 1)
    assert.equal(await changes('folder', 'invalid_value'), 1)
  })

  it('a chat is measured from its first token to its end', async () => {
    const front = createFront()
    const body = { ...goodChat, stream: true, adapter: 'safety-r1' }
    await (await front.post('/v1/chat/completions', body)).text()
    const engine = '{model_name="tiny",engine="0"}'
    assert.equal(await front.metric(`vllm:time_to_first_token_seconds_count${engine}`), 1)
    assert.equal(await front.metric(`vllm:inter_token_latency_seconds_count${engine}`), 3)
    assert.equal(await front.metric(`vllm:prompt_tokens_total${engine}`), 7)
    assert.equal(await front.metric('dutyfree_generation_tokens_total{adapter="safety-r1"}'), 4)
    const http =
      'dutyfree_http_requests_total{route="/v1/chat/completions",method="POST",status="200"}'
    assert.equal(await front.metric(http), 1)
  })

  it('is served on /metrics in Prometheus’ own type', async () => {
    const response = await createFront().request('/metrics')
    assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
    parsePage(await response.text())
  })
})
