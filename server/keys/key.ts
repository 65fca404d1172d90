// A key as the server knows it: by its SHA-256 alone, with roles, limits and a floor.

import { createHash, timingSafeEqual } from 'node:crypto'
import type { KeyFloor } from '../contracts/safety.ts'

export const roles = ['inference', 'metrics', 'admin'] as const
/** admin: changes what the server serves, and may do all that the others may. */
export type Role = (typeof roles)[number]

export interface Key {
  /** For logs and fairness; the key cannot be read from it. */
  readonly name: string
  readonly digests: readonly Buffer[]
  readonly roles: readonly Role[]
  /** Requests under way; null: as many as the server takes. */
  readonly maxConcurrent: number | null
  readonly tokensPerMinute: number | null
  readonly floor: KeyFloor
}

export function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** A key that a flag gives. */
export function keyOf(token: string, ofRoles: readonly Role[]): Key {
  const digest = digestOf(token)
  return {
    name: createHash('sha256').update('name').update(digest).digest('base64url').slice(0, 16),
    digests: [digest],
    roles: ofRoles,
    maxConcurrent: null,
    tokensPerMinute: null,
    floor: { safety: null, requireAdapter: null, begunAnswers: null },
  }
}

export function mayDo(key: Pick<Key, 'roles'>, role: Role): boolean {
  return key.roles.includes(role) || key.roles.includes('admin')
}

/** Compares the digests of all keys each time, so that timing leaks neither length nor prefix. */
export function findKey(keys: readonly Key[], token: string): Key | null {
  const given = digestOf(token)
  const found = keys.filter(
    ({ digests }) => digests.filter((digest) => timingSafeEqual(digest, given)).length > 0,
  )
  return found[0] ?? null
}
