// An engine whose requests a guard behind an address judges: the same interface around another engine,
// which itself judges nothing.

import type { EngineClient, Generation, ModelInfo } from '../contracts/engine.ts'
import type { ChatInput, GenerateRequest } from '../contracts/generation.ts'
import type { GuardInfo, SafetyPlan } from '../contracts/safety.ts'
import type { GuardServer } from './guard-server.ts'
import { judgedEvents } from './judged-generation.ts'
import { toConversation } from './llama-guard.ts'

/** A label was the more probable one. */
const usualThreshold = 0.5

export interface JudgingClientOptions {
  readonly engine: EngineClient
  readonly server: GuardServer
  /** As the guard is called in answers; its address stays with the operator. */
  readonly model: string
  readonly now: () => number
}

export function createJudgingClient({
  engine,
  server,
  model: id,
  now,
}: JudgingClientOptions): EngineClient {
  const info: GuardInfo = {
    kind: 'url',
    id,
    digest: null,
    hasProbe: false,
    threshold: usualThreshold,
  }
  const withGuard = (model: ModelInfo): ModelInfo => ({ ...model, guard: info })

  /** The prompt as messages; what is no chat is a user's. */
  async function chatOf({ prompt, turn }: GenerateRequest): Promise<ChatInput> {
    if (prompt.kind === 'messages') return prompt
    const content =
      prompt.kind === 'text' ? prompt.text : await engine.detokenize(prompt.tokens, turn)
    return { messages: [{ role: 'user', content }] }
  }

  function judgedGeneration(request: GenerateRequest, plan: SafetyPlan): Generation {
    const ended = new AbortController()
    const inner = engine.submit({ ...request, safety: null })
    const chat = chatOf(request)
    // It is waited for where it is judged.
    chat.catch(() => {})

    async function judge(reply: string | null) {
      const conversation = await chat
        .then((input) => toConversation(input, reply))
        .catch(() => null)
      if (conversation === null) return { reading: null, isCut: false }
      const reading = await server.judge(conversation, ended.signal)
      return { reading, isCut: conversation.isCut }
    }

    function cancel(): void {
      ended.abort()
      inner.cancel()
    }

    const events = judgedEvents({
      generation: { ...inner, cancel },
      plan,
      n: request.n,
      guard: { ...info, certified: false },
      threshold: plan.threshold ?? usualThreshold,
      judge,
      now,
    })
    return { id: inner.id, events, cancel }
  }

  return {
    get state() {
      return engine.state
    },
    get model() {
      return engine.model && withGuard(engine.model)
    },
    get restarts() {
      return engine.restarts
    },
    get outage() {
      return engine.outage
    },
    submit(request) {
      const { safety } = request
      return safety === null ? engine.submit(request) : judgedGeneration(request, safety)
    },
    tokenize: (input, turn) => engine.tokenize(input, turn),
    detokenize: (tokens, turn) => engine.detokenize(tokens, turn),
    listAdapters: (query) => engine.listAdapters(query),
    changeMerge: (change) => engine.changeMerge(change),
    get mergeStatus() {
      return engine.mergeStatus
    },
    changeAdapter: (change) => engine.changeAdapter(change),
    ready: async () => withGuard(await engine.ready()),
    close: (how) => engine.close(how),
  }
}
