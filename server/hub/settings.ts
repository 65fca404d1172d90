// Where the hub is, who asks, and where files are kept: from the variables that Hugging Face's own
// tools read, so that what works for them works here.

import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { HUB_URL } from '@huggingface/hub'
import { ServerError } from '../errors.ts'

export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string
  readonly token: string | null
  /** Holds models--org--name/. */
  readonly cacheDir: string
  readonly isOffline: boolean
}

type Environment = Readonly<Record<string, string | undefined>>

/** Throws ServerError for values that cannot be meant; never shows a token. */
export function readHubSettings(env: Environment): HubSettings {
  const home = expandHome(
    env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface'),
  )
  return {
    endpoint: readEndpoint(env.HF_ENDPOINT || HUB_URL),
    token: readToken(env, home),
    cacheDir: expandHome(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, 'hub')),
    isOffline: /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE || ''),
  }
}

function expandHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path
}

function readEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null
  const isHttp = url?.protocol === 'https:' || url?.protocol === 'http:'
  // Not shown: it may hold a password.
  if (!url || !isHttp || url.username || url.password || url.search || url.hash) {
    throw new ServerError(
      'invalid_config',
      'HF_ENDPOINT must be an http or https address without user, query or fragment; the token goes into HF_TOKEN',
    )
  }
  return url.href.replace(/\/+$/, '')
}

/** HF_TOKEN, or the file that a login with Hugging Face's tools has written. */
function readToken(env: Environment, home: string): string | null {
  const given = env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN
  const path = expandHome(env.HF_TOKEN_PATH || join(home, 'token'))
  const token = (given ?? readIfThere(path)).trim()
  if (token === '') return null
  // A header that cannot be sent would be quoted by the error that fetch throws.
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new ServerError(
    'invalid_config',
    `${given ? 'HF_TOKEN' : path} must hold one word of printable ASCII: the hub's token`,
  )
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
