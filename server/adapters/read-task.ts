// The task of reading an adapter. What was read is handed over, not copied.

import type { LinearModule } from '../contracts/checkpoint.ts'
import { defineTask } from '../threads/task.ts'
import type { AdapterFolder } from './adapter-folder.ts'
import {
  type ReadAdapterOptions,
  type ReadFolder,
  readPeftFolder,
  UnservedModules,
} from './peft.ts'

export interface ReadOrder {
  readonly folder: AdapterFolder
  readonly options: ReadAdapterOptions
}

/** An error's class does not cross threads: what only this room knows is a result. */
export type ReadOutcome =
  | { readonly kind: 'read'; readonly read: ReadFolder }
  | {
      readonly kind: 'unserved'
      readonly modules: readonly LinearModule[]
      readonly served: readonly LinearModule[]
    }

export const readTask = defineTask({
  url: import.meta.url,
  async run({ folder, options }: ReadOrder): Promise<ReadOutcome> {
    try {
      return { kind: 'read', read: await readPeftFolder(folder, options) }
    } catch (error) {
      if (!(error instanceof UnservedModules)) throw error
      const { modules, served } = error
      return { kind: 'unserved', modules, served }
    }
  },
  transfers: (outcome) => (outcome.kind === 'read' ? memoryOf(outcome.read) : []),
})

function memoryOf({ matrices }: ReadFolder): ArrayBuffer[] {
  return matrices.flatMap(({ a, b }) => [a.buffer as ArrayBuffer, b.buffer as ArrayBuffer])
}
