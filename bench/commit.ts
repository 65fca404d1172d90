// The commit that a result belongs to, and whether the tree differs from it.

import { execFileSync } from 'node:child_process'

export interface Commit {
  /** Abbreviated hash; "unknown" outside a repository. */
  readonly commit: string
  /** Whether something that is measured, or that measures, was changed and not committed. */
  readonly dirty: boolean
}

/** Results are no part of what is measured: a run does not make the next one's tree dirty. */
const measured = ['server', 'bench', 'package-lock.json', ':(exclude)bench/results']

export function readCommit(root: string): Commit {
  function git(...args: string[]) {
    return execFileSync('git', args, {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  }

  try {
    const commit = git('rev-parse', '--short', 'HEAD').trim()
    return { commit, dirty: git('status', '--porcelain', '--', ...measured) !== '' }
  } catch {
    return { commit: 'unknown', dirty: false }
  }
}

export function showCommit({ commit, dirty }: Commit): string {
  return `commit ${commit}${dirty ? ' **with changes**' : ''}`
}
