// The Python side as tests find it: training/.venv, which `npm test` makes.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './root.ts'

const binaries = process.platform === 'win32' ? ['Scripts', 'python.exe'] : ['bin', 'python']
export const python = join(root, 'training', '.venv', ...binaries)

/** A reason to skip a test that compares with Python, or false; never skips under REQUIRE_ALL. */
export const lacksPython: string | false =
  existsSync(python) || process.env.DUTYFREE_REQUIRE_ALL === '1'
    ? false
    : 'training/.venv is missing: npm test makes it'
