// A folder for one test file, removed when its tests have run.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'

export function createTempFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'dutyfree-test-'))
  after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}
