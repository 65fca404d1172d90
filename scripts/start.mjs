// npm start [-- flags]: installs and builds once, then serves.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { build, installNode, root } from './setup.mjs'

installNode()
if (build() !== 0) process.exit(1)
const server = spawn(
  process.execPath,
  [join(root, 'dist/server/main.js'), ...process.argv.slice(2)],
  {
    cwd: root,
    stdio: 'inherit',
  },
)
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => server.kill(signal))
server.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)))
