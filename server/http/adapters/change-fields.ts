// What a request for a change says, as fields of JSON or of a multipart body. An unknown field is refused: a
// condition with a spelling mistake must not be no condition.

import { z } from 'zod'
import { type AdapterChange, adapterFiles, adapterNamePattern } from '../../contracts/adapter.ts'
import { ServerError } from '../../errors.ts'
import { quote } from '../request/quote.ts'
import { mergeSchema, unmergeSchema } from './merge-fields.ts'
import { parseChange } from './parse-change.ts'

const digest = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits')
const folder = z.string().min(1).max(4096)
const jsonSchema = z.strictObject({
  name: z.string(),
  folder: folder.optional(),
  hub: z.string().max(256).optional().describe('org/name on the hub, with --hub-adapters'),
  revision: z.string().max(256).optional().describe('Of hub: a branch, a tag or a commit'),
  replace: z.union([z.boolean(), digest]).optional(),
  digest: digest.nullish(),
  pinned: z.boolean().nullish(),
})
const uploadSchema = jsonSchema.omit({ folder: true, hub: true, revision: true })
const file = z.string().describe('A file part')

/** For the OpenAPI document: route → its bodies. */
export const changeBodies: Readonly<Record<string, { json: z.ZodType; upload?: z.ZodType }>> = {
  '/v1/adapters': {
    json: jsonSchema,
    upload: uploadSchema.extend({
      [adapterFiles.config]: file,
      [adapterFiles.tensors]: file,
      [adapterFiles.manifest]: file.optional(),
    }),
  },
  '/v1/adapters/:id/merge': { json: mergeSchema },
  '/v1/adapters/:id/unmerge': { json: unmergeSchema },
  '/v1/adapters/unmerge': { json: unmergeSchema },
}

type Fields = z.infer<typeof jsonSchema>

/** What a JSON body asks for. */
export type JsonChange =
  | { readonly kind: 'folder'; readonly change: Extract<AdapterChange, { kind: 'load' }> }
  | {
      readonly kind: 'hub'
      readonly repo: string
      readonly revision: string | null
      /** Once its files are in a folder of that name. */
      readonly change: (staged: string) => Extract<AdapterChange, { kind: 'install' }>
    }

/** Names that no adapter may have: the base model's, and what means it. */
type IsReserved = (name: string) => boolean

export function parseJsonChange(
  body: Readonly<Record<string, unknown>>,
  isReserved: IsReserved,
): JsonChange {
  const fields = parseChange(jsonSchema, body)
  const id = requireName(fields.name, isReserved)
  const { hub, revision = null } = fields
  if (hub === undefined) {
    if (revision !== null) throw contradiction('revision', 'is that of hub, which is missing')
    const from = fields.folder ?? id
    // Its own folder again is no conflict.
    const conditions = conditionsOf(fields, from === id)
    return { kind: 'folder', change: { kind: 'load', id, folder: from, ...conditions } }
  }
  if (fields.folder !== undefined) throw contradiction('hub', 'and folder exclude each other')
  const conditions = conditionsOf(fields, false)
  return {
    kind: 'hub',
    repo: hub,
    revision,
    change: (staged) => ({ kind: 'install', id, staged, ...conditions }),
  }
}

function contradiction(param: string, message: string): ServerError {
  return new ServerError('invalid_value', `${param} ${message}`, { param })
}

export function parseUpload(
  texts: ReadonlyMap<string, string>,
  staged: string,
  isReserved: IsReserved,
): Extract<AdapterChange, { kind: 'install' }> {
  const values = [...texts].map(([name, text]) => [name, plainValue(text)] as const)
  const fields = parseChange(uploadSchema, Object.fromEntries(values))
  const id = requireName(fields.name, isReserved)
  return { kind: 'install', id, staged, ...conditionsOf(fields, false) }
}

/** Seconds of ?wait. */
export function parseWait(text: string | undefined): number {
  if (text === undefined) return 0
  const seconds = /^\d{1,2}$/.test(text) ? Number(text) : 99
  if (seconds <= maxWaitSeconds) return seconds * 1000
  throw new ServerError(
    'invalid_value',
    `wait must be a whole number of seconds from 0 to ${maxWaitSeconds}; got ${quote(text)}`,
    { param: 'wait' },
  )
}

const maxWaitSeconds = 30

function plainValue(text: string): string | boolean {
  return text === 'true' || text === 'false' ? text === 'true' : text
}

function conditionsOf(
  { replace, digest, pinned }: Pick<Fields, 'replace' | 'digest' | 'pinned'>,
  replaces: boolean,
) {
  return {
    replace: typeof replace === 'string' ? { digest: replace } : (replace ?? replaces),
    digest: digest ?? null,
    pinned: pinned ?? null,
  }
}

export function requireName(name: string, isReserved: IsReserved): string {
  if (adapterNamePattern.test(name) && !isReserved(name)) return name
  throw new ServerError(
    'invalid_value',
    `name must be 1 to 64 letters, digits, ".", "_" or "-", begin with a letter or digit, and not be ` +
      `the base model's; got ${quote(name)}`,
    { param: 'name' },
  )
}
