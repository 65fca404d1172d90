// Every metric once: name, type, labels, buckets, help. Names of vLLM where it has one, so that its
// dashboards and the Kubernetes inference extension work; ours begin with dutyfree_.
// Labels never hold what a request made up: models and adapters only when loaded, routes as patterns.

type MetricType = 'counter' | 'gauge' | 'histogram'

export interface MetricDefinition {
  readonly type: MetricType
  readonly help: string
  readonly labels: readonly string[]
  readonly buckets?: readonly number[]
}

const ttft = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  160, 640, 2560,
]
const perToken = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
]
const phase = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
]
const http = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
const scores = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1]
const tokens = [1, 2, 5].flatMap((step) => [0, 1, 2, 3, 4, 5].map((power) => step * 10 ** power))
const tokenCounts = [...tokens].sort((a, b) => a - b)

/** What vLLM puts on every metric of its own. */
const engine = ['model_name', 'engine'] as const

export const metricDefinitions = {
  'vllm:num_requests_running': {
    type: 'gauge',
    help: 'Sequences in the running batch.',
    labels: engine,
  },
  'vllm:num_requests_waiting': {
    type: 'gauge',
    help: 'Sequences waiting for a place in the batch.',
    labels: engine,
  },
  'vllm:kv_cache_usage_perc': {
    type: 'gauge',
    help: 'Used share of the KV cache, from 0 to 1.',
    labels: engine,
  },
  'vllm:lora_requests_info': {
    type: 'gauge',
    help: 'Adapters of running and waiting requests as labels; the value is the Unix time.',
    labels: ['max_lora', 'waiting_lora_adapters', 'running_lora_adapters'],
  },
  'vllm:prompt_tokens_total': {
    type: 'counter',
    help: 'Prompt tokens of finished requests.',
    labels: engine,
  },
  'vllm:generation_tokens_total': {
    type: 'counter',
    help: 'Tokens generated for finished requests.',
    labels: engine,
  },
  'vllm:request_success_total': {
    type: 'counter',
    help: 'Requests that were answered, by finish reason: stop, length, content_filter or abort.',
    labels: [...engine, 'finished_reason'],
  },
  'vllm:prefix_cache_queries_total': {
    type: 'counter',
    help: 'Prompt tokens looked up in the prefix cache.',
    labels: engine,
  },
  'vllm:prefix_cache_hits_total': {
    type: 'counter',
    help: 'Prompt tokens found in the prefix cache.',
    labels: engine,
  },
  'vllm:time_to_first_token_seconds': {
    type: 'histogram',
    help: 'From submission to the first token.',
    labels: engine,
    buckets: ttft,
  },
  'vllm:inter_token_latency_seconds': {
    type: 'histogram',
    help: 'Between two tokens of one choice.',
    labels: engine,
    buckets: perToken,
  },
  'vllm:request_time_per_output_token_seconds': {
    type: 'histogram',
    help: 'Mean time per token after the first, per request.',
    labels: engine,
    buckets: perToken,
  },
  'vllm:e2e_request_latency_seconds': {
    type: 'histogram',
    help: 'From submission to the last token.',
    labels: engine,
    buckets: phase,
  },
  'vllm:request_queue_time_seconds': {
    type: 'histogram',
    help: 'Waiting for a place in the batch.',
    labels: engine,
    buckets: phase,
  },
  'vllm:request_prefill_time_seconds': {
    type: 'histogram',
    help: 'Running the prompt.',
    labels: engine,
    buckets: phase,
  },
  'vllm:request_decode_time_seconds': {
    type: 'histogram',
    help: 'From the first token to the last.',
    labels: engine,
    buckets: phase,
  },
  'vllm:request_inference_time_seconds': {
    type: 'histogram',
    help: 'Prefill and decode together.',
    labels: engine,
    buckets: phase,
  },
  'vllm:request_prompt_tokens': {
    type: 'histogram',
    help: 'Prompt tokens per request.',
    labels: engine,
    buckets: tokenCounts,
  },
  'vllm:request_generation_tokens': {
    type: 'histogram',
    help: 'Generated tokens per request.',
    labels: engine,
    buckets: tokenCounts,
  },
  'vllm:request_params_max_tokens': {
    type: 'histogram',
    help: 'max_tokens of requests that set it.',
    labels: engine,
    buckets: tokenCounts,
  },
  'vllm:request_params_n': {
    type: 'histogram',
    help: 'Choices per request.',
    labels: engine,
    buckets: [1, 2, 5, 10, 20],
  },
  'vllm:cache_config_info': {
    type: 'gauge',
    help: 'The KV cache as labels; the value is 1.',
    labels: ['model_name', 'block_size', 'num_gpu_blocks'],
  },
  dutyfree_requests_total: {
    type: 'counter',
    help: 'Requests that reached the engine, by applied adapters and outcome.',
    labels: ['adapter', 'outcome'],
  },
  dutyfree_prompt_tokens_total: {
    type: 'counter',
    help: 'Prompt tokens by applied adapters.',
    labels: ['adapter'],
  },
  dutyfree_generation_tokens_total: {
    type: 'counter',
    help: 'Generated tokens by applied adapters.',
    labels: ['adapter'],
  },
  dutyfree_time_to_first_token_seconds: {
    type: 'histogram',
    help: 'From submission to the first token, by applied adapters.',
    labels: ['adapter'],
    buckets: ttft,
  },
  dutyfree_safety_score: {
    type: 'histogram',
    help: 'P(unsafe) of verdicts, by what was judged and applied adapters.',
    labels: ['part', 'adapter'],
    buckets: scores,
  },
  dutyfree_safety_flagged_total: {
    type: 'counter',
    help: 'Verdicts that crossed the threshold.',
    labels: ['part', 'adapter'],
  },
  dutyfree_safety_uncertified_total: {
    type: 'counter',
    help: 'Verdicts over adapters that the guard was not measured on.',
    labels: ['part', 'adapter'],
  },
  dutyfree_safety_skipped_total: {
    type: 'counter',
    help: 'Verdicts without a score: truncated (no position was left) or failed.',
    labels: ['part', 'reason'],
  },
  dutyfree_safety_blocked_total: {
    type: 'counter',
    help: 'Choices that ended with content_filter, by what was judged last.',
    labels: ['part', 'adapter'],
  },
  dutyfree_safety_escalated_total: {
    type: 'counter',
    help: 'Choices that went on with the adapter of --escalate-adapter or the request.',
    labels: ['adapter'],
  },
  dutyfree_policy_floor_refusals_total: {
    type: 'counter',
    help: 'Requests that asked for less than the flags allow: safety or begun_answer.',
    labels: ['rule'],
  },
  dutyfree_guard_requests_total: {
    type: 'counter',
    help: 'Verdicts asked of a guard behind an address, by outcome.',
    labels: ['outcome'],
  },
  dutyfree_guard_request_seconds: {
    type: 'histogram',
    help: 'From asking a guard behind an address to its verdict or failure.',
    labels: [],
    buckets: http,
  },
  dutyfree_adapters_resident: {
    type: 'gauge',
    help: 'Adapters held in memory.',
    labels: [],
  },
  dutyfree_adapters_resident_bytes: {
    type: 'gauge',
    help: 'Of their vectors, those included that running requests still hold.',
    labels: [],
  },
  dutyfree_adapters_pinned: {
    type: 'gauge',
    help: 'Names of adapters that are never evicted.',
    labels: [],
  },
  dutyfree_adapter_changes_total: {
    type: 'counter',
    help: 'Changes by kind (upload, folder, hub, remove, unload) and outcome: added, replaced, unchanged, removed or an error code.',
    labels: ['kind', 'outcome'],
  },
  dutyfree_upload_bytes_total: {
    type: 'counter',
    help: 'Bytes of uploads, of refused ones too.',
    labels: [],
  },
  dutyfree_key_requests_total: {
    type: 'counter',
    help: 'Requests by name of their key and outcome: ok, limited (429), forbidden (403), client_error or server_error.',
    labels: ['key', 'outcome'],
  },
  dutyfree_key_tokens_total: {
    type: 'counter',
    help: 'Tokens of prompt and answer, by name of the key.',
    labels: ['key'],
  },
  dutyfree_engine_ready: {
    type: 'gauge',
    help: '1 while the engine serves, else 0.',
    labels: [],
  },
  dutyfree_engine_restarts_total: {
    type: 'counter',
    help: 'Engine processes that failed and were started again.',
    labels: ['reason'],
  },
  dutyfree_engine_replacements_total: {
    type: 'counter',
    help: 'Engines that another was started beside, such as for an adapter that needs more modules.',
    labels: ['outcome'],
  },
  dutyfree_merges_total: {
    type: 'counter',
    help: 'Changes of what the weights hold: merged, unmerged, unchanged or refused.',
    labels: ['outcome'],
  },
  dutyfree_merged_adapter_info: {
    type: 'gauge',
    help: 'The strength of each adapter that is part of the weights.',
    labels: ['adapter', 'digest'],
  },
  dutyfree_engine_memory_bytes: {
    type: 'gauge',
    help: 'Memory of the engine by what holds it.',
    labels: ['kind'],
  },
  dutyfree_client_disconnects_total: {
    type: 'counter',
    help: 'Clients that left before their answer was complete.',
    labels: ['stage'],
  },
  dutyfree_http_requests_total: {
    type: 'counter',
    help: 'HTTP responses by route pattern and status.',
    labels: ['route', 'method', 'status'],
  },
  dutyfree_http_request_duration_seconds: {
    type: 'histogram',
    help: 'From the request to the end of its response.',
    labels: ['route', 'method'],
    buckets: http,
  },
} as const satisfies Record<string, MetricDefinition>

export type MetricName = keyof typeof metricDefinitions
