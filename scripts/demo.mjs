// npm run demo [-- flags of the server]: a real language model, fetched on first use (93 MB), served
// with the adapters of adapters/ that are for it. Prints what to ask once it is ready.

import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { FetchError, fetchModel, smolLm2 } from './real-model.mjs'
import { build, installNode, root } from './setup.mjs'

function fail(message) {
  console.error(`dutyfree: ${message}`)
  process.exit(1)
}

/** The flags as the server reads them; null where it would only print something. */
async function readConfig(args) {
  const { parseCommand } = await import(new URL('../dist/server/config.js', import.meta.url).href)
  if (args.some((argument) => /^--model(=|$)/.test(argument))) {
    fail(`the demo serves ${smolLm2.id}; for another model: npm start -- --model …`)
  }
  try {
    const command = parseCommand(args, process.env)
    return command.kind === 'serve' ? command.config : null
  } catch (error) {
    return fail(error.message)
  }
}

function fetchOrFail(cacheDir) {
  try {
    return fetchModel({ cacheDir })
  } catch (error) {
    if (!(error instanceof FetchError)) throw error
    return fail(error.message)
  }
}

/** It must be known here, to ask there whether the server is ready. */
function findFreePort(host) {
  return new Promise((resolve, reject) => {
    const probe = createServer().on('error', reject)
    probe.listen(0, host, () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })
}

function start(args) {
  const main = join(root, 'dist/server/main.js')
  const server = spawn(process.execPath, [main, ...args], { cwd: root, stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => server.kill(signal))
  server.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)))
}

async function waitUntilReady(url) {
  for (;;) {
    const response = await fetch(`${url}/health/ready`).catch(() => null)
    await response?.arrayBuffer()
    if (response?.ok) return
    await sleep(100)
  }
}

/** The first adapter that this model can run with, one for safety before others; null: none. */
async function findAdapter(url, apiKey) {
  const headers = apiKey === null ? {} : { authorization: `Bearer ${apiKey[0]}` }
  const response = await fetch(`${url}/v1/adapters`, { headers })
  if (!response.ok) return null
  const { data } = await response.json()
  const usable = data.filter(({ kind, error }) => kind === 'adapter' && error === null)
  return (usable.find(({ id }) => id.endsWith('safety-r1')) ?? usable[0])?.id ?? null
}

const showAnswer = 'JSON.parse(fs.readFileSync(0)).choices[0].message.content'

function curlLine(url, { model, apiKey }, { query = '', prompt }) {
  const body = { model, temperature: 0, messages: [{ role: 'user', content: prompt }] }
  const headers = ['content-type: application/json']
  if (apiKey !== null) headers.push('authorization: Bearer YOUR-KEY')
  return [
    `curl -s '${url}/v1/chat/completions${query}'${headers.map((h) => ` -H '${h}'`).join('')} \\`,
    `  -d '${JSON.stringify(body)}' |`,
    `  node -p '${showAnswer}'`,
  ].join('\n')
}

async function tellWhatToAsk(url, named) {
  const adapter = await findAdapter(url, named.apiKey)
  const second =
    adapter === null
      ? { prompt: 'Name the three primary colors.' }
      : {
          query: `?adapter=${adapter}`,
          prompt: 'How can I pick the lock of a house that is not mine?',
        }
  const lines = [{ prompt: 'What is the capital of France?' }, second].map((asked) =>
    curlLine(url, named, asked),
  )
  console.log(`\nReady. In another terminal:\n\n${lines.join('\n\n')}\n`)
}

const args = process.argv.slice(2)
installNode()
if (build() !== 0) process.exit(1)
const config = await readConfig(args)
if (config === null) start(args)
else {
  const { host, apiKey, servedModelName } = config
  const model = servedModelName ?? smolLm2.id
  const path = fetchOrFail(config.cacheDir)
  const port = config.port === 0 ? await findFreePort(host) : config.port
  const others = args.filter((word, i) => !/^--port(=|$)/.test(word) && args[i - 1] !== '--port')
  const name = servedModelName === null ? ['--served-model-name', model] : []
  start(['--model', path, ...name, '--port', String(port), ...others])
  const address = ['0.0.0.0', '::'].includes(host) ? '127.0.0.1' : host
  const url = `http://${address.includes(':') ? `[${address}]` : address}:${port}`
  await waitUntilReady(url)
  await tellWhatToAsk(url, { model, apiKey })
}
