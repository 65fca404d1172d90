// How --model names a checkpoint on a hub: org/name, or org/name@revision. One GGUF file of a repository
// is org/name:Q4_K_M, by the end of its name, or org/name/file.gguf.

import type { GgufChoice } from './gguf-selection.ts'

export interface HubId {
  /** "org/name". */
  readonly repo: string
  /** A branch, a tag or a commit. */
  readonly revision: string
  /** Null: the repository's safetensors, or its only GGUF file. */
  readonly gguf: GgufChoice | null
}

const defaultRevision = 'main'

// As the hub itself has it: letters, digits, "_", "-" and ".", no "--" or "..", not ".git" at the end.
const part = '(?!.*(?:--|\\.\\.|\\.git$))\\w(?:[\\w.-]{0,94}\\w)?'
const repoPattern = new RegExp(`^${part}/${part}$`)
// It becomes a path of the cache (refs/<revision>), so no part of it may be "..".
const revisionPattern = /^\w(?:[\w-]|[./](?=\w)){0,199}$/

const filePattern = /^([^/]+\/[^/]+)\/(\w[\w.+-]{0,200}\.gguf)$/i
const quantPattern = /^\w[\w.-]{0,60}$/

/** Null when the text cannot be a hub's id. */
export function parseHubId(text: string): HubId | null {
  const [withoutQuant = '', quant, ...others] = text.split(':')
  const [place = '', revision = defaultRevision, ...rest] = withoutQuant.split('@')
  const [, ofFile, name] = filePattern.exec(place) ?? []
  const repo = ofFile ?? place
  if (others.length + rest.length > 0 || (name !== undefined && quant !== undefined)) return null
  if (!repoPattern.test(repo) || !revisionPattern.test(revision)) return null
  if (quant !== undefined && !quantPattern.test(quant)) return null
  return { repo, revision, gguf: choiceOf(name, quant) }
}

function choiceOf(name: string | undefined, quant: string | undefined): GgufChoice | null {
  if (name !== undefined) return { kind: 'file', name }
  return quant === undefined ? null : { kind: 'quant', quant }
}

const commitPattern = /^[0-9a-f]{40}$/

export function isCommit(revision: string): boolean {
  return commitPattern.test(revision)
}
