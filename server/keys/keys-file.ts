// --keys-file: several keys, each with roles and limits of its own. The file holds digests, never keys. It
// is looked at again while the server runs: a key that is written into it works within a second, one that
// is taken out no longer. SHA-256 and no slow hash: keys are random, and a wrong one must cost nothing.

import { readFileSync, statSync } from 'node:fs'
import { z } from 'zod'
import type { RequiredAdapter } from '../contracts/adapter.ts'
import { safetyModes } from '../contracts/safety.ts'
import { ServerError } from '../errors.ts'
import { requiredAdapter } from '../flag-values.ts'
import { type Key, roles } from './key.ts'

const digest = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits')
const record = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1 to 64 letters, digits, ".", "_", "-"'),
  /** Two while a key is replaced by the next. */
  sha256: z.union([digest, z.array(digest).min(1).max(8)]),
  roles: z.array(z.enum(roles)).min(1),
  max_concurrent: z.int().min(1).optional(),
  tokens_per_minute: z.int().min(1).optional(),
  safety: z.enum(safetyModes).optional(),
  require_adapter: z.string().optional(),
  begun_answers: z.enum(['refuse', 'allow']).optional(),
})
const fileSchema = z.strictObject({ keys: z.array(record).max(10_000) })

/** Throws ServerError invalid_config, without a word of the file's content but names of fields. */
export function parseKeysFile(text: string): readonly Key[] {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return refuse('it is not JSON')
  }
  const { success, data, error } = fileSchema.safeParse(json)
  if (!success) {
    const issue = error.issues[0]!
    return refuse(`${issue.path.map(String).join('.') || 'the file'}: ${issue.message}`)
  }
  const keys = data.keys.map(keyOf)
  const names = new Set(keys.map(({ name }) => name))
  if (names.size < keys.length) refuse('two keys have one name')
  const digests = keys.flatMap(({ digests }) => digests.map((digest) => digest.toString('hex')))
  if (new Set(digests).size < digests.length) refuse('two entries have one sha256')
  return keys
}

function keyOf(entry: z.infer<typeof record>): Key {
  return {
    name: entry.name,
    digests: [entry.sha256].flat().map((hex) => Buffer.from(hex, 'hex')),
    roles: entry.roles,
    maxConcurrent: entry.max_concurrent ?? null,
    tokensPerMinute: entry.tokens_per_minute ?? null,
    floor: {
      safety: entry.safety ?? null,
      requireAdapter: requiredOf(entry),
      begunAnswers: entry.begun_answers ?? null,
    },
  }
}

function requiredOf({ name, require_adapter }: z.infer<typeof record>): RequiredAdapter | null {
  if (require_adapter === undefined) return null
  try {
    return requiredAdapter(require_adapter)
  } catch (error) {
    return refuse(`require_adapter of "${name}" ${(error as Error).message}`)
  }
}

function refuse(why: string): never {
  throw new ServerError('invalid_config', `--keys-file cannot be used: ${why}`)
}

/** How long a change of the file may go unseen. */
const lookEveryMs = 1000

/**
 * The keys of the file now. A file that is broken or gone leaves those of before, and is told of once.
 * Throws ServerError where the first look finds none.
 */
export function createKeysFile({
  path,
  check,
  monotonicMs,
  onChange,
  onBroken,
}: {
  readonly path: string
  /** Throws where the rest of the server could not hold what a key says. */
  readonly check: (keys: readonly Key[]) => void
  readonly monotonicMs: () => number
  readonly onChange: (numKeys: number) => void
  readonly onBroken: (why: string) => void
}): () => readonly Key[] {
  function readChecked(): readonly Key[] {
    const read = readKeys(path)
    check(read)
    return read
  }

  let stamp = stampOf(path)
  let keys = readChecked()
  let lookedAtMs = monotonicMs()
  return () => {
    if (monotonicMs() - lookedAtMs < lookEveryMs) return keys
    lookedAtMs = monotonicMs()
    const current = stampOf(path)
    if (current === stamp) return keys
    stamp = current
    try {
      keys = readChecked()
      onChange(keys.length)
    } catch (error) {
      onBroken((error as Error).message)
    }
    return keys
  }
}

function readKeys(path: string): readonly Key[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    return refuse(`it cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  return parseKeysFile(text)
}

function stampOf(path: string): string {
  const info = statSync(path, { bigint: true, throwIfNoEntry: false })
  return info === undefined ? 'none' : [info.ino, info.size, info.mtimeNs, info.ctimeNs].join(':')
}
