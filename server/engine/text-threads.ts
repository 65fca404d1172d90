// Chat template and tokenizer in threads of their own: no running stream waits for them, whatever the
// text. Each order has a time budget. A template that never ends takes its own request only: its
// thread is ended, another is started.
//
// Several threads, and each client has one of them, so that nobody waits for the slow texts of another
// client; beside a long text a client's short ones have a second. Within a client, and between clients,
// orders come in turn (turns.ts).

import type { ToolFormat } from '../contracts/engine.ts'
import type { ChatMessage, Prompt, Turn } from '../contracts/generation.ts'
import { unlessLate } from '../deadline.ts'
import { createDeferred } from '../engine-client/deferred.ts'
import { ServerError } from '../errors.ts'
import { createOverruns } from '../threads/overruns.ts'
import { startThread, type Thread, ThreadEnded } from '../threads/thread.ts'
import type { TokenTable } from '../tokenizer/token-texts.ts'
import { createTurns } from '../turns/turns.ts'
import { type TextOrder, type TextResult, type TextWork, textTask } from './text-task.ts'

export interface TextThreadsOptions {
  /** The checkpoint's folder. */
  readonly dir: string
  readonly onNotice: (message: string) => void
  /** Monotonic milliseconds. */
  readonly now: () => number
  readonly numThreads?: number
  /** How long a text of so many characters may take, in ms. */
  readonly budgetMs?: (numChars: number) => number
  readonly start?: () => Pick<Thread<TextOrder, TextResult>, 'run' | 'terminate'>
}

interface OpenedTexts {
  readonly table: TokenTable
  readonly toolFormat: ToolFormat | null
  readonly chatTemplate: string | null
}

export interface TextThreads {
  /**
   * Resolves when the first thread can take orders, with the texts of the tokens: nobody else needs
   * to load the tokenizer. Rejects when the thread cannot.
   */
  opened(): Promise<OpenedTexts>
  /** Rejects with ServerError, or with the signal's reason. */
  run(work: TextWork, turn: Turn, signal?: AbortSignal): Promise<TextResult>
  close(): Promise<void>
}

/** Many times what texts of that size take on an idle machine. */
function usualBudget(numChars: number): number {
  return 1500 + numChars / 100
}

interface Order {
  readonly work: TextWork
  readonly turn: Turn
  readonly numChars: number
  readonly resolve: (result: TextResult) => void
  readonly reject: (error: unknown) => void
}

interface Slot {
  readonly thread: Pick<Thread<TextOrder, TextResult>, 'run' | 'terminate'>
  /** With an order, or loading its tokenizer: no order's budget pays for that. */
  isBusy: boolean
  /** Why its thread could not load; the next order is told, and another thread is started. */
  failure: unknown
}

/** It took more time or memory than it may. */
class Overrun extends Error {}

export function createTextThreads(options: TextThreadsOptions): TextThreads {
  const { dir, onNotice, now, numThreads = 2, budgetMs = usualBudget } = options
  const start = options.start ?? (() => startThread(textTask))
  const turns = createTurns<Order>({ stretch: numThreads })
  /** Orders of each client that threads have. */
  const served = new Map<string, readonly Order[]>()
  const overruns = createOverruns({ now, onNotice })
  const slots = Array.from({ length: numThreads }, (): Slot => {
    return { thread: start(), isBusy: true, failure: null }
  })
  let isClosed = false
  const opened = createDeferred<OpenedTexts>()
  opened.promise.catch(() => {})
  void openAll()

  /** One after the other, so that the first is there soon. */
  async function openAll(): Promise<void> {
    for (const slot of slots) {
      const found = await open(slot)
      // The first one's word counts: a promise is settled once.
      if (found === null) opened.reject(slot.failure)
      else opened.resolve(found)
    }
  }

  async function open(slot: Slot): Promise<OpenedTexts | null> {
    if (isClosed) return null // An order would start an ended thread again.
    slot.isBusy = true
    slot.failure = null
    let found: OpenedTexts | null = null
    try {
      found = openedTexts(await slot.thread.run({ dir, work: { kind: 'open' } }))
    } catch (error) {
      slot.failure = error
    }
    slot.isBusy = false
    dispatch()
    return found
  }

  function dispatch(): void {
    for (const slot of slots) {
      if (slot.isBusy) continue
      const order = nextOrder()
      if (order === undefined) return
      turns.take(order)
      void serve(slot, order)
    }
  }

  function nextOrder(): Order | undefined {
    const order = turns.first((client) => !served.has(client))
    if (order !== undefined) return order
    // All that wait have a thread: beside a long text of a client a short one may run.
    const own = turns.first((client) => served.get(client)!.every(isLong))
    return own === undefined || isLong(own) ? undefined : own
  }

  async function serve(slot: Slot, order: Order): Promise<void> {
    const { client } = order.turn
    slot.isBusy = true
    served.set(client, [...(served.get(client) ?? []), order])
    const startMs = now()
    let isFit = true
    try {
      if (slot.failure !== null) throw new ThreadEnded('no tokenizer', { cause: slot.failure })
      order.resolve(await inBudget(slot, order))
      overruns.forget(client)
    } catch (error) {
      isFit = error instanceof ServerError
      order.reject(await explain(slot, order, error))
    }
    turns.charge(order, now() - startMs)
    turns.remove(order)
    const others = served.get(client)!.filter((other) => other !== order)
    if (others.length > 0) served.set(client, others)
    else served.delete(client)
    if (isFit || isClosed) slot.isBusy = false
    else void open(slot)
    dispatch()
  }

  /** What the order is told; a thread that did not answer has ended then. */
  async function explain(
    slot: Slot,
    { work, turn, numChars }: Order,
    error: unknown,
  ): Promise<unknown> {
    if (isClosed) return ending()
    // A text that is refused was looked at in time.
    if (error instanceof ServerError) {
      overruns.forget(turn.client)
      return error
    }
    const isOverrun = error instanceof Overrun || isOutOfMemory(error)
    if (error instanceof Overrun) await slot.thread.terminate()
    if (!isOverrun) return error
    overruns.count(turn.client)
    return tooCostly(work, Math.round(budgetMs(numChars)))
  }

  function inBudget(slot: Slot, { work, numChars }: Order): Promise<TextResult> {
    const result = slot.thread.run({ dir, work })
    return unlessLate(budgetMs(numChars), result, async () => {
      // An answer that is there but not read yet came in time: it is read before an immediate.
      await new Promise<void>((resolve) => setImmediate(resolve))
      throw new Overrun()
    })
  }

  return {
    opened: () => opened.promise,
    async run(work, turn, signal) {
      signal?.throwIfAborted()
      if (isClosed) throw ending()
      overruns.requireNone(turn.client)
      const { promise, resolve, reject } = createDeferred<TextResult>()
      const order: Order = { work, turn, numChars: charsOf(work), resolve, reject }
      function leave(): void {
        // One that runs goes on, within its budget, and nobody hears of it.
        if (turns.isWaiting(order)) turns.remove(order)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', leave, { once: true })
      turns.add(order, turn, order.numChars)
      dispatch()
      try {
        return await promise
      } finally {
        signal?.removeEventListener('abort', leave)
      }
    },
    async close() {
      isClosed = true
      await Promise.all(slots.map(({ thread }) => thread.terminate()))
    },
  }
}

function openedTexts({ table, toolFormat, chatTemplate }: TextResult): OpenedTexts | null {
  return table && { table, toolFormat, chatTemplate }
}

/** Characters; a text of so many takes some ten milliseconds. */
const longText = 20_000

function isLong({ numChars }: Order): boolean {
  return numChars > longText
}

function tooCostly(work: TextWork, ms: number): ServerError {
  if (work.kind === 'constraint') {
    return new ServerError(
      'invalid_value',
      `The grammar of the answer needed more time or memory than it may (${ms} ms): send a smaller ` +
        'or simpler one.',
      work.field === null ? {} : { param: work.field },
    )
  }
  return new ServerError(
    'invalid_request',
    'The chat template and the tokenizer needed more time or memory for this text than they may ' +
      `(${ms} ms): send a shorter or simpler one.`,
  )
}

function ending(): ServerError {
  return new ServerError('shutting_down', 'The engine is ending.')
}

function isOutOfMemory(error: unknown): boolean {
  if (!(error instanceof ThreadEnded)) return false
  return (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ERR_WORKER_OUT_OF_MEMORY'
}

function charsOf(work: TextWork): number {
  switch (work.kind) {
    case 'open':
      return 0
    case 'detokenize':
      return work.tokens.length
    case 'words':
      return work.words.reduce((sum, { length }) => sum + length, 0)
    case 'encode':
      return charsOfPrompt(work.prompt)
    case 'tokenize':
      return charsOfPrompt(work.input)
    case 'constraint':
      return charsPerGrammar + 10 * JSON.stringify(work.constraint).length
  }
}

/** A grammar costs more than a text of its length. */
const charsPerGrammar = 350_000

/** Of each message, a little more than its text: a template has to look at it. */
const charsPerMessage = 16

function charsOfPrompt(prompt: Exclude<Prompt, { kind: 'tokens' }>): number {
  if (prompt.kind === 'text') return prompt.text.length
  const tools = prompt.tools === undefined ? 0 : JSON.stringify(prompt.tools).length
  return prompt.messages.reduce((sum, message) => sum + charsOfMessage(message), tools)
}

function charsOfMessage({ content, toolCalls = [] }: ChatMessage): number {
  const calls = toolCalls.reduce((sum, call) => sum + call.arguments.length, 0)
  return content.length + calls + charsPerMessage
}
