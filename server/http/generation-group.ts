// Several generations as one: choice j of generation i becomes choice i · n + j, the prompt tokens
// add up, and the group ends once, in the first failure or when all are done. An answer attests one
// version of each adapter: a group whose generations run with different ones fails.

import type { Generation } from '../contracts/engine.ts'
import { type GenerationEvent, isTerminal } from '../contracts/generation.ts'
import { ServerError } from '../errors.ts'

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
      if (!isSameVersion(event, accepted[0]!)) {
        cancel()
        yield { kind: 'failed', error: changedMeanwhile().toBody() }
        return
      }
      if (accepted.length < generations.length) continue
      yield sumAccepted(accepted)
      yield* heldBack
    } else if (
      event.kind === 'prompt' ||
      event.kind === 'verdict' ||
      event.kind === 'escalated' ||
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

function isSameVersion({ adapters, guard }: Accepted, other: Accepted): boolean {
  return JSON.stringify([adapters, guard]) === JSON.stringify([other.adapters, other.guard])
}

/** The engine sees to it (engine/call-adapters.ts), but for prompts that come far apart. */
function changedMeanwhile(): ServerError {
  return new ServerError(
    'adapter_unavailable',
    'An adapter or guard changed while the prompts of this request were taken in; send the request again.',
    { param: 'adapter' },
  )
}

function sumAccepted(all: readonly Accepted[]): Accepted {
  return {
    kind: 'accepted',
    promptTokens: all.reduce((sum, event) => sum + event.promptTokens, 0),
    adapters: all[0]?.adapters ?? [],
    guard: all[0]?.guard ?? null,
    ...(all[0]?.merged && { merged: all[0].merged }),
  }
}

type Step = { readonly source: number; readonly result: IteratorResult<GenerationEvent> }

/** Events of all generations as they come, each with the number of its generation. */
async function* race(
  generations: readonly Generation[],
): AsyncGenerator<{ event: GenerationEvent; source: number }> {
  const iterators = generations.map(({ events }) => events[Symbol.asyncIterator]())
  // Each generation has one step under way; those that came wait in `arrived`.
  const arrived: (Step | { readonly error: unknown })[] = []
  let wake: () => void = () => {}
  let numOpen = iterators.length

  function take(step: Step | { readonly error: unknown }): void {
    arrived.push(step)
    wake()
  }

  function advance(source: number): void {
    iterators[source]!.next().then(
      (result) => take({ source, result }),
      (error: unknown) => take({ error }),
    )
  }

  for (const source of iterators.keys()) advance(source)
  try {
    while (numOpen > 0) {
      if (arrived.length === 0) await new Promise<void>((resolve) => (wake = resolve))
      for (const step of arrived.splice(0)) {
        if ('error' in step) throw step.error
        const { source, result } = step
        // After its terminal event a generation has nothing more to say.
        if (result.done || isTerminal(result.value)) numOpen--
        else advance(source)
        if (!result.done) yield { event: result.value, source }
      }
    }
  } finally {
    for (const iterator of iterators) void iterator.return?.().catch(() => {})
  }
}
