// Routes that other servers have and this one has not. They answer 400 by name: a 404 would tell a
// proxy that the whole deployment is gone.

import { type ErrorCode, ServerError } from '../../errors.ts'

const chat = 'POST /v1/chat/completions answers chats'
const completions = 'POST /v1/completions continues a prompt'
const generationOnly = 'this server generates text only'
const stateless = 'nothing is kept here between requests; send the whole chat'
const folder = 'POST /v1/adapters adds an adapter; GET /v1/adapters lists them'
const atStart = 'settings are flags of the start; GET /health and GET /metrics tell how it is'

/** Path → what to do instead. Paths below it are meant too; with an ellipsis, only those. */
const remedies: Readonly<Record<string, string>> = {
  // OpenAI
  '/v1/responses/…': stateless,
  '/v1/edits': chat,
  '/v1/engines': 'GET /v1/models lists the models',
  '/v1/embeddings': generationOnly,
  '/v1/audio': generationOnly,
  '/v1/images': generationOnly,
  '/v1/videos': generationOnly,
  '/v1/realtime': chat,
  '/v1/assistants': stateless,
  '/v1/threads': stateless,
  '/v1/conversations': stateless,
  '/v1/files': stateless,
  '/v1/uploads': stateless,
  '/v1/batches': stateless,
  '/v1/vector_stores': stateless,
  '/v1/containers': stateless,
  '/v1/evals': generationOnly,
  '/v1/fine_tuning': 'npm run train-adapter trains an adapter',
  '/v1/fine-tunes': 'npm run train-adapter trains an adapter',
  '/v1/organization': atStart,
  '/v1/chat/completions/…': stateless,
  '/v1/completions/…': completions,
  // Anthropic
  '/v1/messages/batches': stateless,
  '/v1/complete': completions,
  // vLLM, SGLang, Text Generation Inference
  '/v1/rerank': generationOnly,
  '/v2/rerank': generationOnly,
  '/rerank': generationOnly,
  '/v1/score': generationOnly,
  '/score': generationOnly,
  '/v1/classify': generationOnly,
  '/classify': generationOnly,
  '/pooling': generationOnly,
  '/encode': generationOnly,
  '/v1/tokenize': 'POST /tokenize',
  '/v1/detokenize': 'POST /detokenize',
  '/generate': completions,
  '/generate_stream': completions,
  '/invocations': chat,
  '/inference/v1/generate': completions,
  // llama.cpp
  '/completion': completions,
  '/infill': completions,
  '/embedding': generationOnly,
  '/embeddings': generationOnly,
  '/reranking': generationOnly,
  '/v1/reranking': generationOnly,
  '/apply-template': 'POST /tokenize takes messages',
  '/lora-adapters': folder,
  '/props': atStart,
  '/slots': atStart,
  // Ollama
  '/api': chat,
  // A base URL without /v1
  '/chat/completions': 'the base URL ends in /v1',
  '/completions': 'the base URL ends in /v1',
  '/models': 'the base URL ends in /v1',
  '/responses': 'the base URL ends in /v1',
}

const code: ErrorCode = 'unsupported_endpoint'

/** Each pattern with what it throws. None matches a route of this server: not `/*`, which also
 * matches the path before it. */
export function unsupportedRoutes(): ReadonlyArray<
  readonly [pattern: string, handle: () => never]
> {
  return Object.entries(remedies).flatMap(([path, remedy]) => {
    function refuse(): never {
      throw new ServerError(code, `${path} is not supported by this server: ${remedy}`)
    }
    const above = path.replace(/\/…$/, '')
    const below = [`${above}/:rest{.+}`, refuse] as const
    return above === path ? [[path, refuse] as const, below] : [below]
  })
}
