// Merges and unmerges: a next engine with other weights is started, compared with the current one, and
// takes over. One at a time. Until it takes over, nothing has changed for any request.
//
//   preparing ─ (draining) ─ starting ─ comparing ─┬─ done: new requests go to the next engine
//                                                  └─ failed: the engine from before serves
//
// A change that drains ends the current engine first. Requests are refused for as long, and when the next
// engine fails, one with the former weights is started.

import type { MergedAdapter } from '../contracts/adapter.ts'
import { inLayerOrder, type LinearModule } from '../contracts/checkpoint.ts'
import type { EngineOptions, ModelInfo } from '../contracts/engine.ts'
import {
  type MergeChange,
  type MergeDifference,
  type MergePhase,
  type MergeReport,
  type MergeStatus,
  noMerge,
} from '../contracts/engine.ts'
import type { Logger } from '../contracts/logger.ts'
import type { Observer } from '../contracts/observer.ts'
import type { ServerError } from '../errors.ts'
import type { Engine, Engines } from './engines.ts'
import { compare, readLogprobs, requireAlike } from './merge-comparison.ts'
import {
  changedMeanwhile,
  explain,
  inProgress,
  maxMerged,
  notMerged,
  refuseWithoutMemory,
  tooMany,
} from './merge-errors.ts'

export interface MergingOptions {
  readonly engines: Engines
  readonly observer: Pick<Observer, 'mergeEnded'>
  readonly logger: Logger
  readonly availableBytes: () => number
  readonly now: () => number
}

/** What an engine is to become. */
interface Plan {
  readonly merged: readonly MergedAdapter[]
  readonly modules: readonly LinearModule[]
  /** What the weights hold before. */
  readonly former: readonly MergedAdapter[]
}

export function createMerging({ engines, observer, logger, availableBytes, now }: MergingOptions) {
  let status: MergeStatus = noMerge

  function enter(phase: MergePhase): void {
    status = { ...status, phase, progress: null }
  }

  function onProgress(what: string, done: number, total: number): void {
    if (status.phase === 'starting') status = { ...status, progress: { what, done, total } }
  }

  /** The current engine, with sites for what is to be compared beside its weights. */
  async function withSites({ modules }: Plan): Promise<Engine> {
    await engines.replaceNow((options, model) => {
      const adapterModules = inLayerOrder(model.adapterModules, modules)
      return adapterModules.length === model.adapterModules.length
        ? null
        : { ...options, adapterModules }
    })
    return engines.current
  }

  async function run(change: MergeChange): Promise<MergeReport> {
    const startMs = now()
    const seconds = () => Math.round(now() - startMs) / 1000
    const plan = await planOf(change, engines.current)
    if (plan === null) {
      const { merged } = await engines.current.client.ready()
      return { outcome: 'unchanged', merged, difference: null, seconds: seconds() }
    }
    const old = await withSites(plan)
    const model = await old.client.ready()
    const { merged, former } = plan
    const options = { ...old.options, merged }
    // The current engine makes the same beside its weights. No folder is asked what it holds by now.
    const said = {
      former: await readLogprobs(old.client, model, former),
      before: await readLogprobs(old.client, model, merged),
    }

    async function check(next: Engine): Promise<MergeDifference> {
      enter('comparing')
      const after = await readLogprobs(next.client, model, merged)
      const all = { ...said, after }
      const difference = compare(all, model.weights)
      requireAlike(all, difference)
      return difference
    }

    const difference = change.drains
      ? await swap(old, options, model, check)
      : await startBeside(options, model, check)
    const outcome = change.kind === 'merge' ? 'merged' : 'unmerged'
    return { outcome, merged, difference, seconds: seconds() }
  }

  async function startBeside(
    options: EngineOptions,
    model: ModelInfo,
    check: (next: Engine) => Promise<MergeDifference>,
  ): Promise<MergeDifference> {
    refuseWithoutMemory(model, availableBytes())
    return startNext(options, model, check)
  }

  /** It serves once it was checked, and is ended where it fails. */
  async function startNext(
    options: EngineOptions,
    model: ModelInfo,
    check: (next: Engine) => Promise<MergeDifference>,
  ): Promise<MergeDifference> {
    enter('starting')
    const next = await engines.startNext(options, model, onProgress)
    try {
      const difference = await check(next)
      engines.takeOver(next)
      return difference
    } catch (error) {
      await engines.end(next, { force: true })
      throw error
    }
  }

  async function swap(
    old: Engine,
    options: EngineOptions,
    model: ModelInfo,
    check: (next: Engine) => Promise<MergeDifference>,
  ): Promise<MergeDifference> {
    enter('draining')
    const opened = engines.shut()
    try {
      await engines.end(old)
      return await startNext(options, model, check)
    } catch (error) {
      if (engines.isClosing) throw error
      logger.error({ reason: (error as Error).message }, 'starting the former engine again')
      engines.takeOver(await engines.startNext(old.options, model))
      throw error
    } finally {
      opened()
    }
  }

  function conclude(
    change: MergeChange,
    report: MergeReport | null,
    error: ServerError | null,
  ): void {
    const told = error && { code: error.code, message: error.message }
    status = { ...noMerge, last: { change, report, error: told } }
    observer.mergeEnded(error === null ? report!.outcome : 'refused')
    const { kind, id } = change
    if (error !== null) logger.error({ kind, adapter: id, ...told }, 'the weights stay as they are')
    else logger.info({ kind, adapter: id, ...report }, 'weights changed')
  }

  return {
    get status() {
      return status
    },
    /** Rejects with ServerError; requests are served as before then. */
    async change(change: MergeChange): Promise<MergeReport> {
      if (status.change !== null) throw inProgress()
      status = { ...status, phase: 'preparing', change, progress: null }
      try {
        const report = await engines.inLine(() => run(change))
        conclude(change, report, null)
        return report
      } catch (error) {
        const told = explain(error)
        conclude(change, null, told)
        throw told
      }
    },
  }
}

/** null: the weights are so already. */
async function planOf(change: MergeChange, { client }: Engine): Promise<Plan | null> {
  const { merged } = await client.ready()
  if (change.kind === 'unmerge') {
    if (change.id === null && merged.length === 0) return null
    const left = merged.filter(({ id }) => change.id !== null && id !== change.id)
    if (left.length === merged.length) throw notMerged(change.id ?? '')
    return { merged: left, modules: [], former: merged }
  }
  const prepared = await client.prepareMerge({ id: change.id, scale: change.scale })
  const target = prepared.merged
  const same = merged.find(({ id }) => id === target.id)
  if (same !== undefined && same.digest !== target.digest) throw changedMeanwhile(target)
  if (same?.scale === target.scale) return null
  const others = merged.filter(({ id }) => id !== target.id)
  if (others.length === maxMerged) throw tooMany()
  return { merged: [...others, target], modules: prepared.modules, former: merged }
}
