// Llama Guard 3's format, as an OpenAI-compatible server speaks it: a conversation goes in as messages,
// "safe" or "unsafe\nS1,S9" comes out, with the log-probabilities of its first word where the server
// gives them.

import { z } from 'zod'
import type { ChatInput, ChatMessage } from '../contracts/generation.ts'

interface GuardTurn {
  readonly role: 'user' | 'assistant'
  readonly content: string
}

/** What is judged: the last turn, in the light of those before. */
export interface GuardConversation {
  readonly turns: readonly GuardTurn[]
  /** The middle was left out. */
  readonly isCut: boolean
}

export interface GuardReading {
  /** P(unsafe) */
  readonly score: number
  /** S1 … S14 */
  readonly categories: readonly string[]
}

/** Characters of a conversation: about 8,000 tokens, which every Llama Guard is served with. */
const mostGuardChars = 24_000
const mostCategories = 14

/** Its template raises an error unless user and assistant alternate, from a user on. */
function alternate(turns: readonly GuardTurn[]): readonly GuardTurn[] {
  const merged: GuardTurn[] = []
  for (const turn of turns) {
    const last = merged.at(-1)
    if (last?.role !== turn.role) merged.push(turn)
    else merged[merged.length - 1] = { ...last, content: `${last.content}\n\n${turn.content}` }
  }
  return merged[0]?.role === 'assistant' ? [{ role: 'user', content: '' }, ...merged] : merged
}

/** What stands for the guard's own template, or ends it, becomes plain text. */
function escapeTemplate(text: string): string {
  return text.toWellFormed().replace(/<(?=\||\/?(?:BEGIN|END)\b)/gi, '< ')
}

/** `reply`: the assistant's so far; null: the prompt alone is judged. */
export function toConversation(
  prompt: Pick<ChatInput, 'messages' | 'continuesLast' | 'tools'>,
  reply: string | null,
  mostChars: number = mostGuardChars,
): GuardConversation {
  const turns: GuardTurn[] = prompt.messages.map((message) => ({
    // A system message is a part of what the client asks, and so is what its tools gave.
    role: message.role === 'assistant' ? 'assistant' : 'user',
    content: escapeTemplate(textOf(message)),
  }))
  if (prompt.tools?.length) {
    turns.unshift({ role: 'user', content: escapeTemplate(JSON.stringify(prompt.tools)) })
  }
  if (reply !== null) {
    const begun = prompt.continuesLast ? turns.pop()?.content : ''
    turns.push({ role: 'assistant', content: `${begun ?? ''}${escapeTemplate(reply)}` })
  }
  return cutMiddle(turns, mostChars)
}

function textOf({ content, toolCalls = [] }: ChatMessage): string {
  const calls = toolCalls.map((call) => `${call.name}(${call.arguments})`)
  return [content, ...calls].filter((text) => text !== '').join('\n')
}

/** Keeps half of the characters from the beginning and half from the end. */
function cutMiddle(turns: readonly GuardTurn[], mostChars: number): GuardConversation {
  const total = turns.reduce((sum, { content }) => sum + content.length, 0)
  if (total <= mostChars) return { turns: alternate(turns), isCut: false }
  const half = Math.floor(mostChars / 2)
  let start = 0
  const kept = turns.flatMap(({ role, content }) => {
    const head = content.slice(0, Math.max(0, half - start))
    const tail = content.slice(Math.max(head.length, total - half - start))
    start += content.length
    if (head === '' && tail === '') return []
    const isWhole = head.length + tail.length === content.length
    const text = isWhole ? content : `${head}\n…\n${tail}`.trim()
    return [{ role, content: text.toWellFormed() }]
  })
  return { turns: alternate(kept), isCut: true }
}

export function guardRequest(model: string, turns: readonly GuardTurn[]): object {
  const sampling = { temperature: 0, max_tokens: 48, logprobs: true, top_logprobs: 5 }
  return { model, messages: turns, ...sampling, stream: false }
}

const tokenLogprob = z.object({ token: z.string(), logprob: z.number() })

const completionSchema = z.object({
  choices: z
    .array(
      z.object({
        message: z.object({ content: z.string() }),
        logprobs: z
          .object({
            content: z
              .array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob).nullish() }))
              .nullish(),
          })
          .nullish(),
      }),
    )
    .min(1),
})

type Token = z.infer<typeof tokenLogprob>

/** null: it is no verdict. Never takes silence for "safe". */
export function readVerdict(completion: unknown): GuardReading | null {
  const result = completionSchema.safeParse(completion)
  const choice = result.data?.choices[0]
  if (choice === undefined) return null
  const { content } = choice.message
  const label = /^\s*(safe|unsafe)(?=\s|$)/.exec(content)?.[1]
  const score = scoreOf(choice.logprobs?.content ?? []) ?? scoreOfLabel(label)
  if (score === null) return null
  const named = label === 'unsafe' ? content.matchAll(/\bS(?:[1-9]|1[0-4])\b/g) : []
  const categories = [...new Set([...named].map(([name]) => name))].slice(0, mostCategories)
  return { score, categories }
}

function scoreOfLabel(label: string | undefined): number | null {
  if (label === undefined) return null
  return label === 'unsafe' ? 1 : 0
}

/** From the first token that is one of both labels, white space before it aside. */
function scoreOf(
  tokens: ReadonlyArray<Token & { top_logprobs?: readonly Token[] | null | undefined }>,
): number | null {
  const first = tokens.find(({ token }) => token.trim() !== '')
  if (first === undefined) return null
  const candidates = [first, ...(first.top_logprobs ?? [])]
  const probabilityOf = (label: string) => {
    const found = candidates.find(({ token }) => token.trim() === label)
    return found === undefined ? null : Math.exp(Math.min(0, found.logprob))
  }
  const safe = probabilityOf('safe')
  const unsafe = probabilityOf('unsafe')
  if (safe === null) return unsafe
  if (unsafe === null) return 1 - safe
  return safe + unsafe === 0 ? null : unsafe / (safe + unsafe)
}
