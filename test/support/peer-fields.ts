// The top-level request fields of chat and plain completions that other servers document or parse, as
// their sources and documentation had them in November 2026. Names only.

const list = (names: string): readonly string[] => names.trim().split(/\s+/)

export const peerFields: Readonly<Record<string, readonly string[]>> = {
  OpenAI: list(`
    messages model audio frequency_penalty function_call functions logit_bias logprobs
    max_completion_tokens max_tokens metadata modalities moderation n parallel_tool_calls prediction
    presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort
    response_format safety_identifier seed service_tier stop store stream stream_options temperature
    tool_choice tools top_logprobs top_p user verbosity web_search_options
    prompt best_of echo suffix`),
  vLLM: list(`
    messages model prompt frequency_penalty logit_bias logprobs top_logprobs max_tokens
    max_completion_tokens n presence_penalty response_format seed stop stream stream_options
    temperature top_p tools tool_choice reasoning_effort thinking_token_budget include_reasoning
    parallel_tool_calls user best_of use_beam_search top_k min_p repetition_penalty length_penalty
    stop_token_ids include_stop_str_in_output ignore_eos min_tokens skip_special_tokens
    spaces_between_special_tokens truncate_prompt_tokens truncation_side prompt_logprobs
    allowed_token_ids bad_words echo suffix add_generation_prompt continue_final_message
    add_special_tokens documents chat_template chat_template_kwargs media_io_kwargs
    mm_processor_kwargs structured_outputs guided_json guided_regex guided_choice guided_grammar
    guided_decoding_backend guided_whitespace_pattern structural_tag priority request_id
    return_tokens_as_token_ids return_token_ids return_token_offsets return_prompt_text
    return_assistant_tokens_mask cache_salt kv_transfer_params ec_transfer_params vllm_xargs
    repetition_detection prompt_embeds logits_processors detokenize logprob_token_ids
    stream_interval data_parallel_rank extra_args`),
  'llama.cpp': list(`
    messages model prompt temperature dynatemp_range dynatemp_exponent top_k top_p min_p n_predict
    n_indent n_keep n_discard n_cmpl stream stop typical_p typ_p repeat_penalty repeat_last_n
    presence_penalty frequency_penalty dry_multiplier dry_base dry_allowed_length dry_penalty_last_n
    dry_sequence_breakers xtc_probability xtc_threshold top_n_sigma mirostat mirostat_tau
    mirostat_eta adaptive_target adaptive_decay grammar grammar_lazy grammar_triggers
    preserved_tokens json_schema seed ignore_eos logit_bias n_probs min_keep t_max_predict_ms
    image_data id_slot cache_prompt n_cache_reuse return_tokens return_progress samplers
    timings_per_token post_sampling_probs response_fields lora chat_template_kwargs
    reasoning_format reasoning_in_content thinking_forced_open thinking_budget_tokens
    reasoning_budget parse_tool_calls parallel_tool_calls add_generation_prompt input_prefix
    input_suffix input_extra speculative.n_max speculative.n_min speculative.p_min
    sse_ping_interval backend_sampling response_format tools tool_choice max_tokens n logprobs
    top_logprobs`),
  Ollama: list(`
    model messages prompt tools think format options stream keep_alive logprobs top_logprobs suffix
    images system template raw context truncate shift reasoning reasoning_effort
    num_keep seed num_predict top_k top_p min_p tfs_z typical_p repeat_last_n temperature
    repeat_penalty presence_penalty frequency_penalty mirostat mirostat_tau mirostat_eta
    penalize_newline stop numa num_ctx num_batch num_gpu main_gpu low_vram f16_kv logits_all
    vocab_only use_mmap use_mlock num_thread embedding_only draft_num_predict`),
  DeepSeek: list(`
    messages model thinking reasoning_effort frequency_penalty max_tokens presence_penalty
    response_format stop stream stream_options temperature top_p tools tool_choice logprobs
    top_logprobs user_id prompt echo suffix`),
  SGLang: list(`
    messages model prompt best_of echo frequency_penalty logit_bias logprobs top_logprobs max_tokens
    max_completion_tokens n presence_penalty seed stop stream stream_options suffix temperature top_p
    user return_hidden_states return_routed_experts routed_experts_start_len
    return_cached_tokens_details return_token_ids return_prompt_token_ids return_meta_info top_k
    min_p min_tokens json_schema regex ebnf repetition_penalty stop_token_ids stop_regex no_stop_trim
    ignore_eos skip_special_tokens lora_path session_id session_params response_format custom_params
    custom_logit_processor images_config bootstrap_host bootstrap_port bootstrap_room
    routed_dp_rank disagg_prefill_dp_rank data_parallel_rank rid extra_key cache_salt priority
    custom_labels tools tool_choice parallel_tool_calls reasoning_effort reasoning task
    continue_final_message separate_reasoning stream_reasoning chat_template_kwargs
    max_dynamic_patch min_dynamic_patch use_audio_in_video input_ids
    sampling_params max_new_tokens min_new_tokens sampling_seed`),
  'other clients': list(`
    do_sample num_beams early_stopping no_repeat_ngram_size num_return_sequences enable_thinking
    thinking_budget extra_body parameters adapter_id adapter_source stop_sequences
    max_output_tokens`),
}

/** Those of a chat message. */
export const peerMessageFields: Readonly<Record<string, readonly string[]>> = {
  OpenAI: list('role content name refusal audio tool_calls function_call tool_call_id annotations'),
  vLLM: list('role content name tool_call_id tool_calls reasoning reasoning_content tools'),
  Ollama: list('role content thinking images tool_calls tool_name tool_call_id'),
  DeepSeek: list('role content name prefix reasoning_content tool_calls tool_call_id'),
  SGLang: list('role content name reasoning_content tool_call_id tool_calls tools'),
}
