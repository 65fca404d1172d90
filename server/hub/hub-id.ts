// How --model names a checkpoint on a hub: org/name, or org/name@revision.

export interface HubId {
  /** "org/name". */
  readonly repo: string
  /** A branch, a tag or a commit. */
  readonly revision: string
}

const defaultRevision = 'main'

// As the hub itself has it: letters, digits, "_", "-" and ".", no "--" or "..", not ".git" at the end.
const part = '(?!.*(?:--|\\.\\.|\\.git$))\\w(?:[\\w.-]{0,94}\\w)?'
const repoPattern = new RegExp(`^${part}/${part}$`)
// It becomes a path of the cache (refs/<revision>), so no part of it may be "..".
const revisionPattern = /^\w(?:[\w-]|[./](?=\w)){0,199}$/

/** Null when the text cannot be a hub's id. */
export function parseHubId(text: string): HubId | null {
  const [repo = '', revision = defaultRevision, ...rest] = text.split('@')
  if (rest.length > 0 || !repoPattern.test(repo) || !revisionPattern.test(revision)) return null
  return { repo, revision }
}

const commitPattern = /^[0-9a-f]{40}$/

export function isCommit(revision: string): boolean {
  return commitPattern.test(revision)
}
