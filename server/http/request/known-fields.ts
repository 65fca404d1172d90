// Every request field that OpenAI, vLLM, llama.cpp, Ollama, DeepSeek or SGLang know, and what becomes
// of it here. Data alone: field-rules.ts applies it, docs/FIELDS.md shows it (a test compares them).
//
//   supported  it is read, by a schema or by the file of its subject
//   alias      another spelling of a supported field
//   bag        an object whose fields are read as if they stood in the body itself
//   harmless   accepted with any value: no value changes an answer
//   unused     accepted, left unused, and said so in the log and in a header
//   refused    400 by name, unless it is null or holds a value that changes nothing

import { isObject } from '../../contracts/json.ts'
import { ServerError } from '../../errors.ts'
import {
  alias,
  both,
  each,
  empty,
  harmless,
  nothing,
  only,
  refuse,
  refused,
  supported,
  type Table,
  typeOf,
  values,
} from './field-verdict.ts'
import { quote } from './quote.ts'

/** A choice that permits an answer without tools. */
function permitsNoTool(value: unknown): boolean {
  if (value === 'none' || value === 'auto') return true
  const { allowed_tools: allowed } = Object(value) as { allowed_tools?: { mode?: unknown } | null }
  return typeOf(value) === 'allowed_tools' && allowed?.mode === 'auto'
}

function wrong(param: string, message: string, value: unknown): ServerError {
  return new ServerError('invalid_value', `${param} ${message}; got ${quote(value)}`, { param })
}

const thinkingKeys = new Set(['effort', 'enable', 'enable_thinking', 'enabled', 'thinking', 'type'])

/** On, or some effort; in an object of such keys too. */
function thinksAsUsual(value: unknown): boolean {
  if (typeof value === 'string') return !['none', 'off', 'disabled', 'false'].includes(value)
  if (!isObject(value)) return value === true
  return Object.entries(value).every(([key, at]) => thinkingKeys.has(key) && thinksAsUsual(at))
}

const thinking = values('thinking as usual', thinksAsUsual)

const sampling =
  'model adapter adapter_id lora temperature top_p top_k min_p presence_penalty ' +
  'frequency_penalty repetition_penalty logit_bias min_tokens ignore_eos stop stop_token_ids ' +
  'include_stop_str_in_output seed n prompt_logprobs stream stream_options safety moderation ' +
  'bad_words allowed_token_ids skip_special_tokens return_token_ids logprob_token_ids'

const switchesThinking =
  'thinking is switched on /v1/chat/completions; in a raw prompt, write what the template would'
const noBudget =
  'a thought has no budget of its own here; max_tokens bounds thought and answer together'
const noSampler = 'sampling here is temperature, top_k, top_p, min_p and the penalties'
const textOnly = 'this model reads and writes text only'
const ownTemplate =
  "the checkpoint's own template is used; render another yourself and send it to /v1/completions"
const nothingElseComes = 'it would add to the answer what is not sent here'
const logprobsTell = 'logprobs has the tokens and their ids'
const sharedCache = 'prefixes are shared between all requests here'

const hardware = 'the server decides it for all requests (see its flags)'
const note = 'a note to the operator or to a proxy'
const speed = 'it may change the speed, never the answer'
const statistics = 'it asks for statistics beside the answer'
const ofRefused = 'it tunes a sampler that is refused where it is switched on'

export const knownFields: Table = {
  ...each(sampling, both(supported())),
  ...each('max_tokens max_completion_tokens', both(supported(only(-1)))),
  ...each('options extra_body parameters sampling_params', both({ kind: 'bag' })),

  // Only on one of the routes
  messages: {
    chat: supported(),
    completions: refused(nothing, 'messages are for /v1/chat/completions; send prompt'),
  },
  prompt: {
    chat: refused(only(''), 'prompt is for /v1/completions; send messages'),
    completions: supported(),
  },
  top_logprobs: {
    chat: supported(),
    completions: refused(only(0), 'on /v1/completions logprobs is the number itself'),
  },
  logprobs: { chat: supported(), completions: supported(only(false)) },
  echo: {
    chat: refused(only(false), 'it would show the rendered template; /v1/completions echoes'),
    completions: supported(),
  },
  add_special_tokens: {
    chat: refused(only(false), 'the template brings them; /v1/completions adds them to a text'),
    completions: supported(),
  },
  include_reasoning: {
    chat: supported(),
    completions: refused(only(true), 'the text of /v1/completions is not split'),
  },

  // Other spellings
  ...alias('max_new_tokens n_predict max_output_tokens', 'max_tokens'),
  num_predict: both({
    kind: 'alias',
    of: 'max_tokens',
    note: '`-2` is `-1`',
    read: (value) => (value === -2 ? -1 : value),
    agrees: (value, maxTokens) => value === maxTokens,
  }),
  ...alias('min_new_tokens', 'min_tokens'),
  ...alias('repeat_penalty', 'repetition_penalty'),
  ...alias('stop_sequences', 'stop'),
  ...alias('no_stop_trim', 'include_stop_str_in_output'),
  ...alias('sampling_seed random_seed', 'seed'),
  ...alias('n_cmpl num_return_sequences', 'n'),
  lora_path: both({
    kind: 'alias',
    of: 'adapter',
    note: 'one name; a list of them would be one a prompt',
    read(value, path) {
      if (typeof value === 'string') return value
      throw wrong(path, 'must be one adapter name; adapter takes lists', value)
    },
    agrees: (value, adapter) => value === adapter,
  }),
  do_sample: both({
    kind: 'alias',
    of: 'temperature',
    note: '`false` is `temperature: 0`, `true` says nothing',
    read(value, path) {
      if (typeof value === 'boolean') return value ? undefined : 0
      throw wrong(path, 'must be true or false', value)
    },
    agrees: (value, temperature) => (value === true) === (temperature !== 0),
  }),

  // Thinking: thinking.ts reads it
  ...each('enable_thinking think thinking reasoning reasoning_effort chat_template_kwargs', {
    chat: supported(),
    completions: refused(thinking, switchesThinking),
  }),
  continue_final_message: {
    chat: supported(),
    completions: refused(only(false), 'the text of a prompt is continued as it is'),
  },
  add_generation_prompt: {
    chat: supported(),
    completions: refused(only(true, false), 'the text of a prompt is continued as it is'),
  },
  ...refuse(noBudget, {
    thinking_budget: nothing,
    thinking_token_budget: nothing,
    thinking_budget_tokens: only(-1),
    reasoning_budget: only(-1),
    reasoning_budget_tokens: only(-1),
  }),
  ...refuse('the thought comes in a field of its own; /v1/completions does not split it', {
    separate_reasoning: only(true),
    stream_reasoning: only(true),
    reasoning_format: only('auto', 'deepseek'),
    reasoning_in_content: only(false),
  }),
  ...refuse('where the thought begins is read from prompt and reply', {
    thinking_forced_open: only(false),
  }),

  // Tools: an answer without them is what "auto" permits
  tools: { chat: supported(), completions: { kind: 'unused' } },
  functions: both({ kind: 'unused' }),
  tool_choice: {
    chat: supported(),
    completions: refused(
      values('`"auto"`, `"none"`, or allowed tools in mode "auto"', permitsNoTool),
      'tools are for /v1/chat/completions',
    ),
  },
  parallel_tool_calls: {
    chat: supported(),
    completions: { kind: 'harmless', why: 'without tools it says nothing' },
  },
  ...refuse('send tools and tool_choice', { function_call: only('none', 'auto') }),
  ...refuse('this server searches nothing; it calls tools of the client', {
    web_search_options: nothing,
  }),
  ...harmless('parse_tool_calls', 'calls are always read'),

  // Constrained decoding: output-format.ts reads it
  ...each(
    'response_format structured_outputs guided_json guided_regex guided_choice guided_grammar ' +
      'json_schema regex ebnf',
    both(supported()),
  ),
  grammar: both(supported(only(''))),
  ...refuse('response_format, structured_outputs and grammar say what an answer looks like', {
    format: only(''),
    grammar_triggers: empty,
    structural_tag: nothing,
    guided_whitespace_pattern: nothing,
  }),
  ...harmless('guided_decoding_backend', 'one engine decodes by all grammars here'),
  ...harmless('grammar_lazy preserved_tokens', 'without grammar_triggers it says nothing'),

  // The prompt
  ...refuse(ownTemplate, {
    chat_template: nothing,
    template: only(''),
    raw: values(
      '`true` on /v1/completions',
      (value, { prompt }) => value === (prompt !== undefined),
    ),
    documents: empty,
    task: nothing,
    input_ids: nothing,
    context: empty,
    session_params: empty,
  }),
  ...refuse('send it as a message of the role system', { system: only('') }),
  ...refuse('code is not filled in here; send the text before as prompt', {
    suffix: only(''),
    input_prefix: only(''),
    input_suffix: only(''),
    input_extra: empty,
  }),
  ...refuse(textOnly, {
    audio: nothing,
    modalities: values(
      '`["text"]`',
      (value) => Array.isArray(value) && value.every((kind) => kind === 'text'),
    ),
    images: empty,
    image_data: empty,
    prompt_embeds: nothing,
    mm_processor_kwargs: empty,
    media_io_kwargs: empty,
    images_config: empty,
    use_audio_in_video: only(false),
  }),
  ...harmless('max_dynamic_patch min_dynamic_patch', 'it is about pictures'),
  truncate_prompt_tokens: both(supported(only(-1))),
  ...refuse('truncate_prompt_tokens keeps the last tokens of a prompt', {
    truncation_side: values(
      '`"left"`, or any without `truncate_prompt_tokens`',
      (value, fields) => value === 'left' || fields.truncate_prompt_tokens === undefined,
    ),
  }),
  ...harmless(
    'truncate shift n_keep num_keep n_discard',
    'no prompt is cut by it: one that is too long is a 400',
  ),

  // Sampling
  best_of: both(
    refused(
      values('`1` or `n`', (value, { n }) => value === 1 || value === n),
      'every choice is returned; ask for n of them',
      'unsupported_value',
    ),
  ),
  ...refuse(noSampler, {
    use_beam_search: only(false),
    num_beams: only(1),
    early_stopping: only(false),
    length_penalty: only(1),
    typical_p: only(1),
    typ_p: only(1),
    tfs_z: only(1),
    top_a: only(0),
    top_n_sigma: values('≤ 0', (value) => typeof value === 'number' && value <= 0),
    mirostat: only(0),
    dry_multiplier: only(0),
    xtc_probability: only(0),
    dynatemp_range: only(0),
    adaptive_target: values('< 0', (value) => typeof value === 'number' && value < 0),
    min_keep: only(0),
    samplers: nothing,
    logits_processors: empty,
    custom_logit_processor: nothing,
    custom_params: empty,
    no_repeat_ngram_size: only(0),
    repetition_detection: nothing,
    penalize_newline: only(true),
    penalize_nl: only(true),
    penalty_prompt: nothing,
  }),
  ...harmless(
    'mirostat_tau mirostat_eta dry_base dry_allowed_length dry_penalty_last_n ' +
      'dry_sequence_breakers xtc_threshold dynatemp_exponent adaptive_decay',
    ofRefused,
  ),
  ...each(
    'repeat_last_n',
    both(
      refused(
        values(
          '`-1`, or any without `repetition_penalty`',
          (value, fields) => value === -1 || (fields.repetition_penalty ?? 1) === 1,
        ),
        'repetition_penalty counts the whole prompt and answer',
      ),
    ),
  ),
  ...refuse('stop takes strings, stop_token_ids takes tokens', { stop_regex: empty }),
  ...refuse('max_tokens bounds an answer, --request-timeout every request', {
    t_max_predict_ms: only(0, -1),
    n_indent: only(0),
  }),

  // What comes back
  ...refuse(nothingElseComes, {
    return_hidden_states: only(false),
    return_routed_experts: only(false),
    return_meta_info: only(false),
    return_prompt_text: only(false),
    response_fields: empty,
    spaces_between_special_tokens: only(true),
    detokenize: only(true),
  }),
  ...refuse(logprobsTell, {
    n_probs: only(0),
    post_sampling_probs: only(false),
    return_tokens: only(false),
    return_prompt_token_ids: only(false),
    return_tokens_as_token_ids: only(false),
  }),
  ...harmless('timings_per_token return_progress return_cached_tokens_details', statistics),
  ...harmless(
    'return_token_offsets return_assistant_tokens_mask routed_experts_start_len',
    'it is for another route of its server',
  ),

  // Promises
  ...refuse('answers are not kept here', { store: only(false) }),
  ...refuse('requests take turns here', { priority: only(0) }),
  ...refuse(sharedCache, { cache_salt: nothing, extra_key: nothing }),
  ...refuse('adapters are read from the folder of --adapters', {
    adapter_source: only('local'),
    merged_adapters: nothing,
    adapter_parameters: nothing,
  }),
  ...refuse('adapter names one or several', {
    adapters: nothing,
    adapter_name: nothing,
    adapter_ids: nothing,
    lora_adapter: nothing,
    lora_adapters: nothing,
    lora_name: nothing,
    lora_request: nothing,
    loras: nothing,
  }),
  ...refuse('there is no such extension here', {
    vllm_xargs: empty,
    extra_args: empty,
    kv_transfer_params: empty,
    ec_transfer_params: empty,
  }),
  ...refuse('this model answers at one length; say in the prompt how long', {
    verbosity: only('medium'),
  }),

  ...harmless(
    'user safety_identifier metadata request_id rid user_id custom_labels session_id ' +
      'service_tier prompt_cache_key prompt_cache_retention prompt_cache_options',
    note,
  ),
  ...harmless(
    'prediction cache_prompt n_cache_reuse id_slot stream_interval sse_ping_interval ' +
      'backend_sampling speculative.n_max speculative.n_min speculative.p_min ' +
      'draft_num_predict data_parallel_rank routed_dp_rank disagg_prefill_dp_rank ' +
      'bootstrap_host bootstrap_port bootstrap_room',
    speed,
  ),
  ...harmless(
    'keep_alive num_ctx num_batch num_gpu main_gpu num_thread numa low_vram f16_kv use_mmap ' +
      'use_mlock vocab_only logits_all embedding_only',
    hardware,
  ),
}
