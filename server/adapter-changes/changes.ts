// Adapters that come, change and go while the server runs. What comes is checked whole before anybody sees
// it, then renamed into place. One change after the other; requests wait for none of them, and no change
// waits for a request longer than it was told to.

import { randomUUID } from 'node:crypto'
import { mkdirSync, realpathSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type AdapterFolder, findAdapterFolder } from '../adapters/adapter-folder.ts'
import type { AdapterStore } from '../adapters/store.ts'
import { noAdapter } from '../adapters/summary.ts'
import type { KnownVersion } from '../adapters/versions.ts'
import { type AdapterChange, type AdapterChanged, incomingFolder } from '../contracts/adapter.ts'
import { unlessLate } from '../deadline.ts'
import { storageError } from '../durable.ts'
import { ServerError } from '../errors.ts'
import { copyAdapter } from './adapter-copy.ts'
import { createFolderSwap } from './folder-swap.ts'
import { findNamedFolder } from './named-folder.ts'
import { createPins, type Pins } from './pins.ts'

type Install = Extract<AdapterChange, { kind: 'install' }>
type Load = Extract<AdapterChange, { kind: 'load' }>
type Remove = Extract<AdapterChange, { kind: 'remove' }>

export interface AdapterChanges {
  /** Rejects with ServerError, and then nothing has changed. */
  apply(change: AdapterChange): Promise<AdapterChanged>
}

/**
 * `operators`: names that their flags need. `merged`: names that the weights hold. `onChange`: called after
 * each, and after one that failed.
 */
export function createAdapterChanges(options: {
  readonly root: string
  readonly store: AdapterStore
  readonly operators: readonly string[]
  readonly merged: readonly string[]
  readonly onChange?: () => void
}): AdapterChanges {
  const { store, onChange = () => {} } = options
  const pins = createPins(options.root, store.pin)
  let last: Promise<unknown> = Promise.resolve()

  function inTurn<T>(work: (changer: FolderChanger) => Promise<T>): Promise<T> {
    async function run(): Promise<T> {
      try {
        mkdirSync(options.root, { recursive: true })
        const root = realpathSync.native(options.root)
        return await work(createFolderChanger({ ...options, root, pins }))
      } catch (error) {
        throw storageError(error)
      }
    }
    const mine = last.then(run, run)
    last = mine
    return mine
  }

  async function perform(change: AdapterChange): Promise<AdapterChanged> {
    if (options.merged.includes(change.id)) refuseMerged(change.id)
    switch (change.kind) {
      case 'install':
        return inTurn((changer) => changer.installStaged(change))
      case 'load':
        return inTurn((changer) => changer.load(change))
      case 'remove':
        await inTurn((changer) => changer.remove(change))
        await unlessLate(change.waitMs, store.whenUnused(change.id), () => {})
        return { outcome: 'removed', adapter: null, runningRequests: store.numUsers(change.id) }
    }
  }

  return { apply: (change) => perform(change).finally(onChange) }
}

type FolderChanger = ReturnType<typeof createFolderChanger>

/** `root`: without symbolic links. */
function createFolderChanger({
  root,
  store,
  operators,
  pins,
}: {
  readonly root: string
  readonly store: AdapterStore
  readonly operators: readonly string[]
  readonly pins: Pins
}) {
  const swap = createFolderSwap(root)

  async function finish(
    { id, pinned }: Install | Load,
    outcome: AdapterChanged['outcome'],
    runningRequests: number,
  ): Promise<AdapterChanged> {
    if (pinned !== null) pins.set(id, pinned)
    const [adapter] = await store.list({ ids: [id] })
    if (adapter === undefined) throw noAdapter(id, 'id')
    return { outcome, adapter, runningRequests }
  }

  /** The version in service; null: nobody could read it. */
  async function currentOf(folder: AdapterFolder): Promise<KnownVersion | null> {
    try {
      return store.known(folder) ?? (await store.check(folder, true))
    } catch (error) {
      if (error instanceof ServerError) return null
      throw error
    }
  }

  /** A folder that nobody else writes becomes the adapter of that name. */
  async function install(change: Install | Load, path: string): Promise<AdapterChanged> {
    const { id, replace } = change
    const folder = findAdapterFolder(root, id)
    if (folder !== null && replace === false) refuseExisting(id)
    const checked = await store.check({ id, path, root }, true)
    requireDigest(change, checked)
    const current = folder === null ? null : await currentOf(folder)
    if (typeof replace === 'object') requireCurrent(id, replace.digest, current)
    if (current !== null && isSame(current, checked)) {
      await rm(path, { recursive: true, force: true })
      return finish(change, 'unchanged', 0)
    }
    const runningRequests = store.numUsers(id)
    await swap.install(path, id, () => store.adopt(checked))
    return finish(change, folder === null ? 'added' : 'replaced', runningRequests)
  }

  /** As it stands in the folder of its own name. */
  async function loadInPlace(change: Load, folder: AdapterFolder): Promise<AdapterChanged> {
    const { id, replace } = change
    const known = store.isResident(folder) ? store.known(folder) : null
    if (known !== null && replace === false) refuseExisting(id)
    const checked = known === null ? await store.check(folder, false) : null
    const version = checked ?? known!
    requireDigest(change, version)
    if (typeof replace === 'object') requireCurrent(id, replace.digest, version)
    if (checked === null) return finish(change, 'unchanged', 0)
    const runningRequests = store.numUsers(id)
    store.adopt(checked)
    return finish(change, 'added', runningRequests)
  }

  async function copyAndInstall(change: Load, path: string): Promise<AdapterChanged> {
    const copy = join(root, incomingFolder, randomUUID())
    try {
      await copyAdapter({ id: change.id, path, root }, copy)
      return await install(change, copy)
    } finally {
      await rm(copy, { recursive: true, force: true })
    }
  }

  return {
    installStaged: (change: Install) => install(change, join(root, incomingFolder, change.staged)),

    async load(change: Load): Promise<AdapterChanged> {
      const { id } = change
      const path = findNamedFolder(root, change.folder, swap)
      const own = findAdapterFolder(root, id)
      if (own?.path === path) return loadInPlace(change, own)
      if (own !== null && change.replace === false) refuseExisting(id)
      const isOurs = path === swap.unloadedPathOf(id)
      return isOurs ? install(change, path) : copyAndInstall(change, path)
    },

    async remove({ id, keepsFiles }: Remove): Promise<void> {
      if (findAdapterFolder(root, id) === null) throw noAdapter(id, 'id')
      if (operators.includes(id)) refuseOperators(id)
      await swap.remove(id, keepsFiles, () => store.retire(id))
      pins.set(id, false)
    },
  }
}

function isSame(x: KnownVersion, y: KnownVersion): boolean {
  const manifests = [x, y].map(({ about }) => JSON.stringify(about.manifest.content))
  return x.about.digest === y.about.digest && manifests[0] === manifests[1]
}

function requireDigest({ id, digest }: Install | Load, { about }: KnownVersion): void {
  if (digest === null || digest === about.digest) return
  throw new ServerError(
    'invalid_adapter',
    `Adapter "${id}": its digest is ${about.digest}, and the request asks for ${digest}; nothing was ` +
      'changed.',
    { param: 'digest' },
  )
}

function requireCurrent(id: string, digest: string, current: KnownVersion | null): void {
  if (current?.about.digest === digest) return
  throw new ServerError(
    'adapter_exists',
    `Adapter "${id}" is ${current?.about.digest ?? 'not there'}, and the request replaces ${digest}: ` +
      'somebody else changed it. GET /v1/adapters has its digest.',
    { param: 'replace' },
  )
}

function refuseExisting(id: string): never {
  throw new ServerError(
    'adapter_exists',
    `There is an adapter "${id}" already; send replace=true to put this one in its place.`,
    { param: 'name' },
  )
}

function refuseMerged(id: string): never {
  throw new ServerError(
    'adapter_merged',
    `The adapter "${id}" is part of the weights: POST /v1/adapters/${id}/unmerge comes first.`,
    { param: 'id' },
  )
}

function refuseOperators(id: string): never {
  throw new ServerError(
    'adapter_conflict',
    `The flags of the server name the adapter "${id}" (--require-adapter, --default-adapter): it can ` +
      'be replaced, not removed.',
    { param: 'id' },
  )
}
