// Looks at a converted folder with no file handle left, and prints what comes of it:
//   node look-starved.js FOLDER     started with a small limit of handles

import { closeSync, openSync } from 'node:fs'
import { checkFolder } from '../../server/conversion/converted-folder.ts'

const [folder = ''] = process.argv.slice(2)
const handles: number[] = []
try {
  for (;;) handles.push(openSync(process.execPath, 'r'))
} catch {
  // None is left.
}
const outcome = await checkFolder(folder, () => {}).then(
  ({ kind }) => kind,
  (error: NodeJS.ErrnoException) => error.code,
)
for (const handle of handles) closeSync(handle)
console.log(outcome)
