// Adapters that come, change and go while the server runs: our own routes and vLLM's. The engine checks and
// changes; here bodies are read, uploads to the disk. Only the role admin may.

import type { AdapterChange, AdapterChanged } from '../contracts/adapter.ts'
import type { AdapterChangeEvent, Observer } from '../contracts/observer.ts'
import { storageError, syncToDisk } from '../durable.ts'
import { ServerError } from '../errors.ts'
import {
  type JsonChange,
  parseJsonChange,
  parseUpload,
  parseWait,
  requireName,
} from './adapters/change-fields.ts'
import { createStaging, type StagedFolder } from './adapters/staging.ts'
import { receiveUpload, sourceOf, tooLarge } from './adapters/upload.ts'
import { parseVllmLoad, parseVllmUnload, vllmError, vllmSuccess } from './adapters/vllm-changes.ts'
import { incomingOf, type RequestContext, type Route, type Services } from './context.ts'
import { ClientGone } from './request/body-bytes.ts'
import { readJson, requireModel } from './request-target.ts'

/** What means no adapter, and the routes beside those of one adapter. */
const notNames = new Set(['none', 'merge', 'unmerge'])
/** They share a disk, and each is checked in memory. */
const maxUploads = 4

export function adapterRoutes(services: Services): readonly Route[] {
  const { config, engine, logger, observer, adapters, keys, fetchAdapter } = services
  const staging = createStaging(config.adapters)
  const counted = countChanges(observer)
  let numUploads = 0

  function isReserved(name: string): boolean {
    return notNames.has(name) || name === requireModel(services).id
  }

  async function apply(change: AdapterChange): Promise<AdapterChanged> {
    if (change.kind === 'remove' && keys.requires(change.id)) throw requiredByKey(change.id)
    const changed = await engine.changeAdapter(change)
    adapters.forget(change.id)
    const { outcome, adapter, runningRequests } = changed
    const { digest = null } = adapter ?? {}
    logger.info({ adapter: change.id, outcome, digest, runningRequests }, 'adapter changed')
    return changed
  }

  /** What comes into the folder is taken by the change, or is gone afterwards. */
  async function throughStaging<Change extends AdapterChange>(
    fill: (staged: StagedFolder) => Promise<Change>,
  ): Promise<AdapterChanged> {
    if (numUploads === maxUploads) throw tooManyUploads()
    numUploads++
    try {
      const staged = await staging.open().catch((error) => {
        throw storageError(error)
      })
      try {
        return await apply(await fill(staged))
      } finally {
        await staged.remove()
      }
    } finally {
      numUploads--
    }
  }

  function upload(context: RequestContext, contentType: string): Promise<AdapterChanged> {
    const maxBytes = config.maxUpload
    return counted('upload', async () => {
      if (Number(context.req.header('content-length') ?? 0) > maxBytes) throw tooLarge(maxBytes)
      return throughStaging(async ({ name, path }) => {
        const options = { contentType, folder: path, maxBytes, onBytes: observer.uploaded }
        const source = sourceOf(context.req.raw, incomingOf(context))
        return parseUpload(await receiveUpload(source, options), name, isReserved)
      })
    })
  }

  async function fetchFromHub(
    context: RequestContext,
    { repo, revision, change }: Extract<JsonChange, { kind: 'hub' }>,
  ): Promise<AdapterChanged & { readonly commit: string }> {
    if (fetchAdapter === null) throw hubNotAllowed()
    const client = context.req.raw.signal
    const deadline = AbortSignal.timeout(config.requestTimeout)
    let commit = ''
    const changed = await throughStaging(async ({ name, path }) => {
      const signal = AbortSignal.any([client, deadline])
      const maxBytes = config.maxUpload
      try {
        commit = (await fetchAdapter({ repo, revision, folder: path, maxBytes, signal })).commit
        await syncToDisk(path)
      } catch (error) {
        if (client.aborted) throw new ClientGone('the client left while the adapter came')
        throw deadline.aborted ? hubTooSlow() : storageError(error)
      }
      return change(name)
    })
    return { ...changed, commit }
  }

  async function add(context: RequestContext): Promise<Response> {
    requireModel(services)
    const contentType = context.req.header('content-type') ?? ''
    const isUpload = contentType.split(';', 1)[0]!.trim().toLowerCase() === 'multipart/form-data'
    if (isUpload) return answer(await upload(plainBody(context), contentType))
    const asked = parseJsonChange(await readJson(context, services), isReserved)
    if (asked.kind === 'folder') {
      return answer(await counted('folder', () => apply(asked.change)))
    }
    return answer(await counted('hub', () => fetchFromHub(context, asked)))
  }

  async function remove(context: RequestContext): Promise<Response> {
    const waitMs = parseWait(context.req.query('wait'))
    const id = context.req.param('id') ?? ''
    const change = { kind: 'remove', id, waitMs, keepsFiles: false } as const
    const { runningRequests } = await counted('remove', () => apply(change))
    const isFreed = runningRequests === 0
    return Response.json({ id, object: 'adapter', deleted: true, runningRequests, isFreed })
  }

  function vllmRoutes(prefix: string): readonly Route[] {
    return [
      adminRoute(
        'POST',
        `${prefix}/load_lora_adapter`,
        'Load an adapter, as vLLM does',
        (context) => asVllm(context, parseVllmLoad, 'added'),
      ),
      adminRoute('POST', `${prefix}/unload_lora_adapter`, 'Unload one, as vLLM does', (context) =>
        asVllm(context, parseVllmUnload, 'removed'),
      ),
    ]
  }

  async function asVllm(
    context: RequestContext,
    parse: (body: Readonly<Record<string, unknown>>) => AdapterChange,
    what: 'added' | 'removed',
  ): Promise<Response> {
    const body = await readJson(context, services)
    const named = String(body.lora_name ?? '')
    try {
      await counted(what === 'added' ? 'folder' : 'unload', async () => {
        const change = parse(body)
        requireName(change.id, isReserved)
        return apply(change)
      })
      return vllmSuccess(named, what)
    } catch (error) {
      if (error instanceof ServerError) return vllmError(named, error)
      throw error
    }
  }

  return [
    adminRoute('POST', '/v1/adapters', 'Upload an adapter, or load one from its folder', add),
    adminRoute('DELETE', '/v1/adapters/:id', 'Delete an adapter; running requests keep it', remove),
    ...vllmRoutes('/v1'),
    ...vllmRoutes(''),
  ]
}

/** The metrics hear what came of a change. */
function countChanges({ adapterChanged }: Pick<Observer, 'adapterChanged'>) {
  return async function counted<Changed extends AdapterChanged>(
    kind: AdapterChangeEvent['kind'],
    work: () => Promise<Changed>,
  ): Promise<Changed> {
    try {
      const changed = await work()
      adapterChanged({ kind, outcome: changed.outcome })
      return changed
    } catch (error) {
      adapterChanged({ kind, outcome: outcomeOf(error) })
      throw error
    }
  }
}

function answer({
  outcome,
  adapter,
  runningRequests,
  ...more
}: AdapterChanged & { readonly commit?: string }): Response {
  const change = { outcome, runningRequests, ...more }
  return Response.json({ ...adapter, change }, { status: outcome === 'added' ? 201 : 200 })
}

function outcomeOf(error: unknown): string {
  if (error instanceof ClientGone) return 'disconnected'
  return error instanceof ServerError ? error.code : 'server_error'
}

function adminRoute(
  method: Route['method'],
  path: string,
  summary: string,
  handle: Route['handle'],
): Route {
  return { method, path, summary, role: 'admin', handle }
}

/** A body that a server would have to unpack is none. */
function plainBody(context: RequestContext): RequestContext {
  const encoding = context.req.header('content-encoding') ?? 'identity'
  if (encoding.toLowerCase() === 'identity') return context
  throw new ServerError('unsupported_media_type', 'Content-Encoding must be absent in an upload')
}

function hubNotAllowed(): ServerError {
  return new ServerError(
    'unsupported_value',
    'hub is not allowed here (--hub-adapters); upload the files of the adapter',
    { param: 'hub' },
  )
}

function hubTooSlow(): ServerError {
  return new ServerError(
    'timeout',
    'the hub took longer than a request may (--request-timeout); nothing was changed',
    { param: 'hub' },
  )
}

function requiredByKey(id: string): ServerError {
  return new ServerError(
    'adapter_conflict',
    `a key of --keys-file requires the adapter "${id}": it can be replaced, not removed`,
    { param: 'id' },
  )
}

function tooManyUploads(): ServerError {
  return new ServerError(
    'rate_limit_exceeded',
    `${maxUploads} uploads are under way and no more are taken at once; try again later`,
    { headers: { 'retry-after': '1' } },
  )
}
