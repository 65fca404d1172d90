// Several generations as one: choice j of generation i becomes choice i · n + j, the prompt tokens
// add up, and the group ends once, in the first failure or when all are done.

import type { Generation } from '../contracts/engine.ts'
import { type GenerationEvent, isTerminal } from '../contracts/generation.ts'

export function groupGenerations(
  generations: readonly Generation[],
  n: number,
  id: string,
): Generation {
  const [only] = generations
  if (generations.length === 1 && only !== undefined) return only

  function cancel() {
    for (const generation of generations) generation.cancel()
  }

  return { id, cancel, events: mergeEvents(generations, n, cancel) }
}

type Accepted = Extract<GenerationEvent, { kind: 'accepted' }>

async function* mergeEvents(
  generations: readonly Generation[],
  n: number,
  cancel: () => void,
): AsyncGenerator<GenerationEvent> {
  const accepted: Accepted[] = []
  const heldBack: GenerationEvent[] = []
  let numRunning = generations.length
  let cachedTokens = 0
  for await (const { event, source } of race(generations)) {
    if (event.kind === 'accepted') {
      accepted.push(event)
      if (accepted.length < generations.length) continue
      yield sumAccepted(accepted)
      yield* heldBack
    } else if (
      event.kind === 'prompt' ||
      event.kind === 'delta' ||
      event.kind === 'choice_finished'
    ) {
      const shifted = { ...event, index: source * n + event.index }
      if (accepted.length < generations.length) heldBack.push(shifted)
      else yield shifted
    } else if (event.kind === 'done') {
      cachedTokens += event.cachedTokens
      if (--numRunning === 0) yield { ...event, cachedTokens }
    } else {
      cancel()
      yield event
      return
    }
  }
}

function sumAccepted(all: readonly Accepted[]): Accepted {
  return {
    kind: 'accepted',
    promptTokens: all.reduce((sum, event) => sum + event.promptTokens, 0),
    adapters: all[0]?.adapters ?? [],
  }
}

/** Events of all generations as they come, each with the number of its generation. */
async function* race(
  generations: readonly Generation[],
): AsyncGenerator<{ event: GenerationEvent; source: number }> {
  const iterators = generations.map(({ events }) => events[Symbol.asyncIterator]())

  function next(source: number) {
    const step = iterators[source]!.next()
    const labelled = step.then((result) => ({ source, result }))
    // Whoever stops listening after a first failure must not leave a second one unhandled.
    labelled.catch(() => {})
    return labelled
  }

  const pending = new Map(iterators.map((_, source) => [source, next(source)]))
  try {
    while (pending.size > 0) {
      const { source, result } = await Promise.race(pending.values())
      pending.delete(source)
      if (result.done) continue
      // After its terminal event a generation has nothing more to say.
      if (!isTerminal(result.value)) pending.set(source, next(source))
      yield { event: result.value, source }
    }
  } finally {
    for (const iterator of iterators) void iterator.return?.().catch(() => {})
  }
}
