// A runner on a device that can be lost: a driver resets, a card falls off its bus. After any failure
// the device's memory can no longer be trusted. The first failure is reported, once.

import type { Runner } from './runner.ts'

export function guardRunner(runner: Runner, onFailure: (error: unknown) => void): Runner {
  let hasFailed = false
  function fail(error: unknown): never {
    if (!hasFailed) onFailure(error)
    hasFailed = true
    throw error
  }
  const guard =
    <Args extends readonly unknown[], Result>(run: (...args: Args) => Result) =>
    (...args: Args): Result => {
      try {
        return run(...args)
      } catch (error) {
        return fail(error)
      }
    }
  return {
    ...runner,
    prefill: (input) => runner.prefill(input).catch(fail),
    decode: (batch) => runner.decode(batch).catch(fail),
    verdict: (batch, components, wanted) => runner.verdict(batch, components, wanted).catch(fail),
    get probe() {
      return runner.probe
    },
    get blockMax() {
      return runner.blockMax
    },
    copyRow: guard(runner.copyRow),
    savePositions: guard(runner.savePositions),
    restorePositions: guard(runner.restorePositions),
    reshape: guard(runner.reshape),
  }
}
