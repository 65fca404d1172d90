// The only prom-client registry. It is built from the table of definitions and is the Observer that
// the other rooms talk to.

import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { FinishedRequest, Observer } from '../contracts/observer.ts'
import { type MetricDefinition, type MetricName, metricDefinitions } from './definitions.ts'

/** More combinations of adapters than this are counted together as "other". */
const maxAdapterLabels = 50
/** Names of keys are the operator's own, and may be many. */
const maxKeyLabels = 200

const definitions: Readonly<Record<MetricName, MetricDefinition>> = metricDefinitions

type NamesOf<T extends MetricDefinition['type']> = {
  [Name in MetricName]: (typeof metricDefinitions)[Name]['type'] extends T ? Name : never
}[MetricName]

type Labels = Readonly<Record<string, string | number>>

export interface Metrics extends Observer {
  readonly contentType: string
  /** The page that Prometheus reads. */
  render(): Promise<string>
}

export function createMetrics(options: { readonly unixSeconds?: () => number } = {}): Metrics {
  const { unixSeconds = () => Date.now() / 1000 } = options
  const { registry, metrics, add, set, observe } = createInstruments()
  let engine: Labels = { model_name: '', engine: '0' }
  let maxBatch = 0
  const adapterLabel = createLabels(maxAdapterLabels)
  const keyLabel = createLabels(maxKeyLabels)

  function observePhases(event: FinishedRequest) {
    const { queueSeconds, prefillSeconds, decodeSeconds, completionTokens, n } = event
    observe('vllm:e2e_request_latency_seconds', engine, event.e2eSeconds)
    if (queueSeconds === null || prefillSeconds === null || decodeSeconds === null) return
    observe('vllm:request_queue_time_seconds', engine, queueSeconds)
    observe('vllm:request_prefill_time_seconds', engine, prefillSeconds)
    observe('vllm:request_decode_time_seconds', engine, decodeSeconds)
    observe('vllm:request_inference_time_seconds', engine, prefillSeconds + decodeSeconds)
    const numLater = completionTokens / n - 1
    if (numLater <= 0) return
    observe('vllm:request_time_per_output_token_seconds', engine, decodeSeconds / numLater)
  }

  return {
    contentType: registry.contentType,
    render: () => registry.metrics(),

    httpResponse({ route, method, status, seconds }) {
      add('dutyfree_http_requests_total', { route, method, status })
      observe('dutyfree_http_request_duration_seconds', { route, method }, seconds)
    },
    clientDisconnected(stage) {
      add('dutyfree_client_disconnects_total', { stage })
    },
    firstToken({ adapter, seconds }) {
      observe('vllm:time_to_first_token_seconds', engine, seconds)
      observe('dutyfree_time_to_first_token_seconds', { adapter: adapterLabel(adapter) }, seconds)
    },
    interToken({ seconds }) {
      observe('vllm:inter_token_latency_seconds', engine, seconds)
    },
    requestFinished(event) {
      const { outcome, promptTokens, cachedTokens, completionTokens, maxTokens, n } = event
      const adapter = adapterLabel(event.adapter)
      add('dutyfree_requests_total', { adapter, outcome })
      add('dutyfree_prompt_tokens_total', { adapter }, promptTokens)
      add('dutyfree_generation_tokens_total', { adapter }, completionTokens)
      add('vllm:prompt_tokens_total', engine, promptTokens)
      add('vllm:generation_tokens_total', engine, completionTokens)
      if (!['stop', 'length', 'content_filter', 'abort'].includes(outcome)) return
      add('vllm:request_success_total', { ...engine, finished_reason: outcome })
      add('vllm:prefix_cache_queries_total', engine, promptTokens)
      add('vllm:prefix_cache_hits_total', engine, cachedTokens)
      if (outcome === 'abort') return
      observePhases(event)
      observe('vllm:request_prompt_tokens', engine, promptTokens)
      observe('vllm:request_generation_tokens', engine, completionTokens)
      observe('vllm:request_params_n', engine, n)
      if (maxTokens !== null) observe('vllm:request_params_max_tokens', engine, maxTokens)
    },
    verdict({ adapter: applied, verdict: { part, score, flagged, certified, skipped } }) {
      const adapter = adapterLabel(applied)
      if (score !== null) observe('dutyfree_safety_score', { part, adapter }, score)
      if (flagged) add('dutyfree_safety_flagged_total', { part, adapter })
      if (!certified) add('dutyfree_safety_uncertified_total', { part, adapter })
      if (skipped !== null) add('dutyfree_safety_skipped_total', { part, reason: skipped })
    },
    blocked({ adapter, part }) {
      add('dutyfree_safety_blocked_total', { part, adapter: adapterLabel(adapter) })
    },
    escalated({ adapter }) {
      add('dutyfree_safety_escalated_total', { adapter: adapterLabel(adapter) })
    },
    floorRefused(rule) {
      add('dutyfree_policy_floor_refusals_total', { rule })
    },
    guardAsked({ outcome, seconds }) {
      add('dutyfree_guard_requests_total', { outcome })
      observe('dutyfree_guard_request_seconds', {}, seconds)
    },
    adapterChanged({ kind, outcome }) {
      add('dutyfree_adapter_changes_total', { kind, outcome })
    },
    uploaded(bytes) {
      add('dutyfree_upload_bytes_total', {}, bytes)
    },
    keyUsed({ key, status }) {
      add('dutyfree_key_requests_total', { key: keyLabel(key), outcome: outcomeOf(status) })
    },
    keyTokens({ key, tokens }) {
      add('dutyfree_key_tokens_total', { key: keyLabel(key) }, tokens)
    },
    engineStats(stats) {
      set('vllm:num_requests_running', engine, stats.running)
      set('vllm:num_requests_waiting', engine, stats.waiting)
      set('vllm:kv_cache_usage_perc', engine, stats.kvUsage)
      set('dutyfree_adapters_resident', {}, stats.residentAdapters)
      set('dutyfree_adapters_resident_bytes', {}, stats.residentAdapterBytes)
      set('dutyfree_adapters_pinned', {}, stats.pinnedAdapters)
      const info = metrics.get('vllm:lora_requests_info') as Gauge
      // Only the present combination: each one ever seen would be a series for ever.
      info.reset()
      const labels = {
        max_lora: maxBatch,
        waiting_lora_adapters: stats.waitingAdapters.join(','),
        running_lora_adapters: stats.runningAdapters.join(','),
      }
      info.set(labels, unixSeconds())
    },
    engineState(state) {
      set('dutyfree_engine_ready', {}, state === 'ready' ? 1 : 0)
    },
    engineReady(model) {
      engine = { model_name: model.id, engine: '0' }
      maxBatch = model.maxBatch
      set(
        'vllm:cache_config_info',
        { model_name: model.id, block_size: 1, num_gpu_blocks: model.kvCapacityTokens },
        1,
      )
      const merged = metrics.get('dutyfree_merged_adapter_info') as Gauge
      merged.reset()
      for (const { id, digest, scale } of model.merged) {
        merged.set({ adapter: id, digest: digest.slice(0, 12) }, scale)
      }
      for (const [kind, bytes] of Object.entries(model.bytes)) {
        set('dutyfree_engine_memory_bytes', { kind }, bytes)
      }
    },
    engineRestarted(reason) {
      add('dutyfree_engine_restarts_total', { reason })
    },
    mergeEnded(outcome) {
      add('dutyfree_merges_total', { outcome })
    },
    engineReplaced(outcome) {
      add('dutyfree_engine_replacements_total', { outcome })
    },
  }
}

/** The first so many texts as they are, and "other" for the rest. */
function createLabels(most: number): (text: string) => string {
  const known = new Set<string>()
  return function label(text) {
    if (known.size < most) known.add(text)
    return known.has(text) ? text : 'other'
  }
}

function outcomeOf(status: number): string {
  if (status < 400) return 'ok'
  if (status === 429) return 'limited'
  if (status === 403) return 'forbidden'
  return status < 500 ? 'client_error' : 'server_error'
}

/** Every metric of the table in a registry of its own, and what one may do to them by name. */
function createInstruments() {
  const registry = new Registry()
  const metrics = new Map(
    (Object.keys(definitions) as MetricName[]).map((name) => [name, build(registry, name)]),
  )

  function add(name: NamesOf<'counter'>, labels: Labels, by = 1) {
    return (metrics.get(name) as Counter).inc(labels as Record<string, string>, by)
  }

  function set(name: NamesOf<'gauge'>, labels: Labels, value: number) {
    return (metrics.get(name) as Gauge).set(labels as Record<string, string>, value)
  }

  function observe(name: NamesOf<'histogram'>, labels: Labels, value: number) {
    return (metrics.get(name) as Histogram).observe(labels as Record<string, string>, value)
  }

  return { registry, metrics, add, set, observe }
}

function build(registry: Registry, name: MetricName): Counter | Gauge | Histogram {
  const { type, help, labels, buckets } = definitions[name]
  const common = { name, help, labelNames: [...labels], registers: [registry] }
  switch (type) {
    case 'counter':
      return new Counter(common)
    case 'gauge':
      return new Gauge(common)
    case 'histogram':
      return new Histogram({ ...common, buckets: [...(buckets ?? [])] })
  }
}
