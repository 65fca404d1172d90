// Changes adapters while requests run, and remembers which version was in force when: `live` is replaced in
// place by one content after the other, `guest` comes and goes. Between them come uploads that must be
// refused. Beside them one adapter becomes part of the weights and is taken out again: answers stay the
// same.

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { badUploads } from './bad-uploads.mjs'
import { readContents, uploadForm } from './contents.mjs'
import { wasInForce } from './versions.mjs'

export const liveName = 'live'
export const guestName = 'guest'

/**
 * Starts a merge or unmerge every `mergeEveryMs`, a change every `everyMs` and, spread over `seconds`,
 * `numBad` bad uploads. The server must have an adapter `live` by then: `firstDigest`. `stop` resolves to
 * what came of all: {changes: [{what, atSeconds, ms, error}], bad: [{what, error}]}.
 */
export function startChanges({
  api,
  contents,
  firstDigest,
  everyMs,
  mergeEveryMs,
  numBad,
  seconds,
}) {
  const startMs = performance.now()
  const history = new Map([
    [liveName, [{ digest: firstDigest, sentMs: startMs, doneMs: startMs }]],
    [guestName, [{ digest: null, sentMs: startMs, doneMs: startMs }]],
  ])
  const changes = []
  const bad = []
  let turn = 0
  let mergeTurn = 0
  let isStopped = false

  async function change(what, name, digest, call) {
    const entry = { digest, sentMs: performance.now(), doneMs: Number.POSITIVE_INFINITY }
    history.get(name)?.push(entry)
    const error = await call().then(
      () => undefined,
      (cause) => cause.message,
    )
    entry.doneMs = performance.now()
    if (error !== undefined) console.error(`\nchanges: ${what} failed: ${error}`)
    const atSeconds = (entry.sentMs - startMs) / 1000
    changes.push({ what, atSeconds, ms: entry.doneMs - entry.sentMs, error })
  }

  /** Uploads and folders in turn, so that `live` never gets what it has. */
  async function next() {
    const content = contents[(Math.floor(turn / 4) + 1) % contents.length]
    const other = contents[(Math.floor(turn / 4) + 2) % contents.length]
    const step = turn++ % 4
    if (step === 0) {
      await change('upload', guestName, other.digest, () => api.upload(guestName, other))
    } else if (step === 1) {
      await change('replacement by upload', liveName, content.digest, () =>
        api.upload(liveName, content, { replace: 'true' }),
      )
    } else if (step === 2) {
      await change('removal', guestName, null, () => api.remove(guestName))
    } else {
      await change('replacement by folder', liveName, other.digest, () =>
        api.loadFolder(liveName, other.id),
      )
    }
  }

  /** The first content's own adapter: it is never replaced, and must stand by its name alone. */
  async function mergeNext() {
    const { id, digest } = contents[0]
    if (mergeTurn++ % 2 === 0) await change('merge', id, digest, () => api.merge(id))
    else await change('unmerge', id, digest, () => api.unmerge())
  }

  async function refuseNext() {
    const { what, expected, send } = badUploads[bad.length % badUploads.length]
    const entry = { what, error: undefined }
    bad.push(entry)
    try {
      const got = await send(api, contents[0])
      if (!expected.includes(got)) entry.error = `${got}, not ${expected.join(' or ')}`
    } catch (error) {
      entry.error = error.message
    }
    if (entry.error) console.error(`\nchanges: bad upload "${what}": ${entry.error}`)
  }

  const running = [repeat(next, everyMs)]
  if (mergeEveryMs !== undefined) running.push(repeat(mergeNext, mergeEveryMs))
  if (numBad > 0) running.push(repeat(refuseNext, (seconds * 900) / numBad, numBad))

  /** One after the other, each at its time or as soon as the one before has ended. */
  async function repeat(act, ms, most = Number.POSITIVE_INFINITY) {
    for (let count = 0; count < most && !isStopped; count++) {
      const waitMs = startMs + (count + 1) * ms - performance.now()
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, waitMs)))
      if (!isStopped) await act()
    }
  }

  return {
    get numFailed() {
      return [...changes, ...bad].filter(({ error }) => error !== undefined).length
    },
    /** Whether a request between these times may have met that version; null: no such adapter. */
    allows: (name, digest, fromMs, toMs) =>
      history.has(name) ? wasInForce(history.get(name), digest, fromMs, toMs) : digest !== null,
    async stop() {
      isStopped = true
      await Promise.all(running)
      return { changes, bad }
    },
  }
}

const mergeDeadline = () => AbortSignal.timeout(300_000)

/** The routes that change adapters. */
export function createApi({ url, adminKey }) {
  const headers = { connection: 'close', authorization: `Bearer ${adminKey}` }

  async function call(method, path, { body, more = {}, signal } = {}) {
    const response = await fetch(`${url}${path}`, {
      method,
      body,
      headers: { ...headers, ...more },
      signal: signal ?? AbortSignal.timeout(60_000),
    })
    const text = await response.text()
    return { status: response.status, answer: text.startsWith('{') ? JSON.parse(text) : text }
  }

  async function must(...args) {
    const { status, answer } = await call(...args)
    if (status >= 300) throw new Error(`${status} ${answer.error?.code} ${answer.error?.message}`)
    return answer
  }

  const json = (body) => ({
    body: JSON.stringify(body),
    more: { 'content-type': 'application/json' },
  })
  return {
    url,
    authorization: headers.authorization,
    call,
    list: () => must('GET', '/v1/adapters'),
    upload: (name, content, fields = {}) =>
      must('POST', '/v1/adapters', { body: uploadForm(content, { name, ...fields }) }),
    loadFolder: (name, folder) =>
      must('POST', '/v1/adapters', json({ name, folder, replace: true })),
    merge: (name) => must('POST', `/v1/adapters/${name}/merge`, { signal: mergeDeadline() }),
    unmerge: () => must('POST', '/v1/adapters/unmerge', { signal: mergeDeadline() }),
    remove: (name, waitSeconds = 0) => must('DELETE', `/v1/adapters/${name}?wait=${waitSeconds}`),
  }
}

/** Brings `live` into service; gives what the load needs to know of it. */
export async function beginLive({ api, folder, references }) {
  const { data } = await api.list()
  const contents = readContents(folder, data, references)
  if (contents.length < 2) {
    throw new Error(`two adapters of ${folder} must be served, to replace one by the other`)
  }
  const { digest } = await api.upload(liveName, contents[0], { replace: 'true' })
  const before = data.map(({ id }) => id).filter((id) => id !== liveName && id !== guestName)
  return { contents, firstDigest: digest, before: before.sort() }
}

/** Takes `live` and `guest` out again: {listed: what the server has then, staged, isFreed}. */
export async function endLive(api, { adapters, server }) {
  const ids = async () => (await api.list()).data.map(({ id }) => id).sort()
  // A run without merges leaves nothing to take out: then this says so and changes nothing.
  await api.unmerge()
  if ((await ids()).includes(guestName)) await api.remove(guestName)
  const { isFreed } = await api.remove(liveName, 10)
  const incoming = join(adapters, '.dutyfree', 'incoming')
  const isKnown = server !== undefined && existsSync(incoming)
  return { listed: await ids(), staged: isKnown ? readdirSync(incoming) : [], isFreed }
}
