// All keys of the server: those of the flags, and those of a file that may change.

import { findKey, type Key, keyOf } from './key.ts'

export interface KeyRing {
  /** Requests need a key, whatever they ask for. */
  readonly isRequired: boolean
  readonly hasAdmin: boolean
  find(token: string): Key | null
  /** The floor of a key names that adapter. */
  requires(adapterId: string): boolean
}

export function createKeyRing({
  apiKeys,
  adminKey,
  keysOfFile,
}: {
  /** null: none are given. */
  readonly apiKeys: readonly string[] | null
  readonly adminKey: string | null
  /** null: there is no file. */
  readonly keysOfFile: (() => readonly Key[]) | null
}): KeyRing {
  const ofFlags = [
    ...(adminKey === null ? [] : [keyOf(adminKey, ['admin'])]),
    ...(apiKeys ?? []).map((token) => keyOf(token, ['inference', 'metrics'])),
  ]
  const all = () => [...ofFlags, ...(keysOfFile?.() ?? [])]
  return {
    isRequired: apiKeys !== null || keysOfFile !== null,
    get hasAdmin() {
      return all().some((key) => key.roles.includes('admin'))
    },
    find: (token) => findKey(all(), token),
    requires: (id) => all().some(({ floor }) => floor.requireAdapter?.id === id),
  }
}
