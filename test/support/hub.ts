// A small Hugging Face hub on loopback, and the other host that its large files are redirected to.
// Right by default; faults on demand, one per request.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createDeferred } from '../../server/engine-client/deferred.ts'

export type Fault =
  | {
      readonly kind: 'status'
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
    }
  /** The connection breaks after so many bytes of the answer's body. */
  | { readonly kind: 'drop'; readonly after: number; readonly ignoresRange?: boolean }
  | { readonly kind: 'ignoresRange' }
  | { readonly kind: 'wrongBytes' }
  /** A well-formed answer with other bytes than the listing has. */
  | {
      readonly kind: 'body'
      readonly body: Buffer
      readonly headers?: Readonly<Record<string, string>>
    }
  /** Half the body, then nothing until `release`. */
  | { readonly kind: 'stall' }

interface SeenRequest {
  readonly host: 'hub' | 'cdn'
  readonly path: string
  readonly authorization: string | undefined
  readonly range: string | undefined
}

export type RepoContent = Readonly<Record<string, Buffer | string>>

export interface TestHub {
  readonly url: string
  readonly requests: readonly SeenRequest[]
  /** A new commit, which `revision` names from now on. */
  commit(files: RepoContent, revision?: string): string
  /** What befalls the next requests for a file, for "revision" or for "tree". */
  fail(what: string, ...faults: readonly Fault[]): void
  /** Ranges asked for, of one file, at the host that gives its bytes. */
  ranges(name: string): readonly (string | undefined)[]
  /** Lets every stalled answer go on. */
  release(): void
  /** Nobody listens any more. */
  close(): Promise<void>
}

export interface TestHubOptions {
  readonly repo?: string
  /** Only with it are requests answered. */
  readonly token?: string
  /** Does the listing hold hashes? */
  readonly hasDigests?: boolean
  /** How many entries a page of the listing has. */
  readonly pageSize?: number
}

const isLarge = (name: string) => name.endsWith('.safetensors') || name.endsWith('.bin')

export const gitDigest = (bytes: Buffer): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

export async function startHub(options: TestHubOptions = {}): Promise<TestHub> {
  const { repo = 'org/tiny', token, hasDigests = true, pageSize = 1000 } = options
  const commits = new Map<string, ReadonlyMap<string, Buffer>>()
  const revisions = new Map<string, string>()
  const faults = new Map<string, Fault[]>()
  const requests: SeenRequest[] = []
  let whenReleased = createDeferred<void>()

  const see = (host: SeenRequest['host'], { url = '', headers }: IncomingMessage) => {
    const { authorization } = headers
    requests.push({ host, path: url, authorization, range: headers.range })
  }

  const hub = createServer((request, response) => {
    see('hub', request)
    const url = new URL(request.url ?? '', 'http://hub')
    const refuse = (status: number, code: string) =>
      void response.writeHead(status, { 'x-error-code': code }).end()
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      return refuse(401, 'GatedRepo')
    }
    const [, api, resolve] =
      new RegExp(`^/(?:api/models/${repo}/(.+)|${repo}/resolve/(.+))$`).exec(url.pathname) ?? []
    const [first, second = ''] = (api ?? resolve)?.split('/') ?? []
    if (api !== undefined && first === 'revision') {
      const revision = decodeURIComponent(second)
      const sha = commits.has(revision) ? revision : revisions.get(revision)
      if (sha === undefined) return refuse(404, 'RevisionNotFound')
      return void answer(request, response, 'revision', json({ _id: '1', id: repo, sha }))
    }
    if (api !== undefined && first === 'tree') return sendTree(request, response, url, second)
    const bytes = commits.get(first ?? '')?.get(second)
    if (resolve === undefined || bytes === undefined) return refuse(404, 'RepoNotFound')
    if (!isLarge(second)) return void answer(request, response, second, bytes)
    const location = `${urlOf(cdn)}/${first}/${second}?signature=secret`
    response.writeHead(302, { location, 'x-linked-etag': `"${sha256(bytes)}"` }).end()
  })

  const cdn = createServer((request, response) => {
    see('cdn', request)
    const [, commit = '', name = ''] = new URL(request.url ?? '', 'http://cdn').pathname.split('/')
    const bytes = commits.get(commit)?.get(name)
    if (bytes === undefined) return void response.writeHead(404).end()
    void answer(request, response, name, bytes)
  })

  function sendTree(request: IncomingMessage, response: ServerResponse, url: URL, commit: string) {
    const files = [...(commits.get(commit) ?? [])]
    const start = Number(url.searchParams.get('cursor') ?? 0)
    const entries = files.slice(start, start + pageSize).map(([path, bytes]) => ({
      type: 'file',
      path,
      size: bytes.length,
      ...(hasDigests && { oid: gitDigest(bytes) }),
      ...(hasDigests &&
        isLarge(path) && {
          lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 },
        }),
    }))
    if (start + pageSize < files.length) {
      url.searchParams.set('cursor', String(start + pageSize))
      response.setHeader('link', `<${urlOf(hub)}${url.pathname}${url.search}>; rel="next"`)
    }
    void answer(request, response, 'tree', json([{ type: 'directory', path: 'onnx' }, ...entries]))
  }

  async function answer(
    { headers }: IncomingMessage,
    response: ServerResponse,
    what: string,
    whole: Buffer,
  ): Promise<void> {
    const fault = faults.get(what)?.shift()
    if (fault?.kind === 'status') {
      return void response.writeHead(fault.status, fault.headers).end()
    }
    const ignoresRange =
      fault?.kind === 'ignoresRange' || (fault?.kind === 'drop' && fault.ignoresRange)
    const bytes =
      fault?.kind === 'body' ? fault.body : fault?.kind === 'wrongBytes' ? flip(whole) : whole
    const range = ignoresRange ? null : /^bytes=(\d+)-/.exec(headers.range ?? '')
    const first = Number(range?.[1] ?? 0)
    if (range && first >= bytes.length) return void response.writeHead(416).end()
    const body = bytes.subarray(first)
    response.writeHead(range ? 206 : 200, {
      ...(fault?.kind === 'body' && fault.headers),
      'content-length': body.length,
      ...(range && { 'content-range': `bytes ${first}-${bytes.length - 1}/${bytes.length}` }),
    })
    if (fault?.kind === 'drop') {
      // Ended, not destroyed: every byte before the break arrives, so that a test can count them.
      return void response.write(body.subarray(0, fault.after), () =>
        response.socket?.destroySoon(),
      )
    }
    if (fault?.kind === 'stall') {
      response.write(body.subarray(0, body.length >> 1))
      await whenReleased.promise
      return void response.end(body.subarray(body.length >> 1))
    }
    response.end(body)
  }

  for (const server of [hub, cdn]) await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    url: urlOf(hub),
    requests,
    commit(files, revision = 'main') {
      const content = new Map(
        Object.entries(files).map(([name, bytes]) => [name, Buffer.from(bytes as Buffer)]),
      )
      const list = [...content].map(([name, bytes]) => `${name} ${sha256(bytes)}\n`)
      const sha = createHash('sha1').update(list.join('')).digest('hex')
      commits.set(sha, content)
      revisions.set(revision, sha)
      return sha
    },
    fail: (what, ...list) => void faults.set(what, [...list]),
    ranges: (name) =>
      requests
        .filter(({ host, path }) => path.includes(name) && (host === 'cdn' || !isLarge(name)))
        .map(({ range }) => range),
    release() {
      whenReleased.resolve()
      whenReleased = createDeferred()
    },
    async close() {
      whenReleased.resolve()
      for (const server of [hub, cdn]) {
        server.close()
        server.closeAllConnections()
      }
    },
  }
}

const json = (value: unknown) => Buffer.from(JSON.stringify(value))
const urlOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`

function flip(bytes: Buffer): Buffer {
  const wrong = Buffer.from(bytes)
  wrong[0] = (wrong[0] as number) ^ 1
  return wrong
}
