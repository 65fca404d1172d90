// The flags of those who change what is served while it runs.

import { ServerError } from './errors.ts'
import { flag, setting } from './flag-schema.ts'
import { adapterStrength, apiKey, integer, onOff, parseSize, text } from './flag-values.ts'

export const adminFlags = {
  adminKey: flag(apiKey, {
    value: '<key>',
    default: null,
    description: 'Bearer key of the role admin, which may change adapters; without one nobody may',
  }),
  keysFile: flag(text, {
    value: '<file>',
    default: null,
    description:
      'JSON file of several keys by their SHA-256, with roles, limits and minima; looked at again each second',
  }),
  adminPort: flag(integer(0, 65535), {
    value: '<n>',
    default: null,
    shownDefault: 'that of --port',
    description:
      'Port of its own for changes; the public one answers 404 to them then. 0 takes any free one',
  }),
  adminHost: flag(text, {
    value: '<address>',
    default: null,
    shownDefault: '127.0.0.1',
    description: 'Bound address of --admin-port',
  }),
  adminMetrics: setting(onOff, {
    value: '<on|off>',
    default: 'off',
    description: 'on: /metrics is answered at --admin-port only',
  }),
  merge: flag(adapterStrength, {
    value: '<id[:strength]>',
    default: null,
    description: 'Made part of the weights before the server is ready',
  }),
  maxUpload: setting(parseSize, {
    value: '<size>',
    default: '512MB',
    description: 'Largest upload of an adapter; 413 beyond it',
  }),
  hubAdapters: setting(onOff, {
    value: '<on|off>',
    default: 'off',
    description: 'on: the role admin may have adapters fetched from the hub, by org/name',
  }),
}

/** What the flags above say, and what they depend on. */
interface AdminFlags {
  readonly port: number
  readonly adminKey: string | null
  readonly keysFile: string | null
  readonly adminPort: number | null
  readonly adminHost: string | null
  readonly adminMetrics: boolean
}

/** Throws where flags contradict one another. */
export function checkAdminFlags<Flags extends AdminFlags>(flags: Flags): Flags {
  const { port, adminKey, keysFile, adminPort, adminHost, adminMetrics } = flags
  if (adminPort === null) {
    if (adminHost !== null) throw contradiction('admin-host', 'needs --admin-port')
    if (adminMetrics) throw contradiction('admin-metrics', 'on needs --admin-port')
    return flags
  }
  if (adminKey === null && keysFile === null) {
    throw contradiction('admin-port', `${noAdmin} (--admin-key or --keys-file)`)
  }
  if (adminPort !== 0 && adminPort === port) {
    throw contradiction('admin-port', `must differ from --port; both are ${port}`)
  }
  return flags
}

/** Throws where --admin-port would be of use to nobody. */
export function checkAdminKey({ adminPort }: Pick<AdminFlags, 'adminPort'>, hasAdmin: boolean) {
  if (adminPort === null || hasAdmin) return
  throw contradiction('admin-port', `${noAdmin}, and no key of --keys-file has it`)
}

const noAdmin = 'needs a key of the role admin'

function contradiction(flagName: string, message: string): ServerError {
  return new ServerError('invalid_config', `--${flagName} ${message}`)
}
