// What the list costs over many adapter folders, over HTTP with the model that ships: a page, all
// pages, one adapter, and the first request that names one; and how late the event loops come meanwhile.
//   node dist/bench/tools/adapter-folders.js [folders] [folder to make them in]

import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startMeasuredServer } from './measured-server.ts'

const root = join(import.meta.dirname, '..', '..', '..')
const [count = '20000', under = tmpdir()] = process.argv.slice(2)
const folder = mkdtempSync(join(under, 'adapter-folders-'))

// The small files are files, as they would be; the tensors are one file, linked to.
const safety = join(root, 'adapters', 'safety-r1')
mkdirSync(join(folder, 'shared'))
for (const name of ['adapter_config.json', 'adapter_model.safetensors', 'manifest.json']) {
  writeFileSync(join(folder, 'shared', name), readFileSync(join(safety, name)))
}
const config = readFileSync(join(safety, 'adapter_config.json'))
const manifest = JSON.stringify({ recommended_strength: 1, description: 'a copy' })
for (let i = 0; i < Number(count); i++) {
  const dir = join(folder, `a${String(i).padStart(6, '0')}`)
  mkdirSync(dir)
  writeFileSync(join(dir, 'adapter_config.json'), config)
  writeFileSync(join(dir, 'manifest.json'), manifest)
  const tensors = 'adapter_model.safetensors'
  symlinkSync(join('..', 'shared', tensors), join(dir, tensors))
}

const started = performance.now()
const server = await startMeasuredServer(['--adapters', folder])
console.log(`${count} folders in ${folder}`)
console.log('| what | ms | bytes | lag of the front, ms | of the engine, ms |')
console.log('| --- | --- | --- | --- | --- |')
console.log(`| start until ready | ${(performance.now() - started).toFixed(0)} | | | |`)

async function report(what: string, start: number, bytes: number | ''): Promise<void> {
  const ms = (performance.now() - start).toFixed(0)
  const { front, engine } = await server.readLag()
  console.log(`| ${what} | ${ms} | ${bytes} | ${front.toFixed(0)} | ${engine.toFixed(0)} |`)
}

async function ask(what: string, path: string, body?: object): Promise<void> {
  await server.readLag()
  const start = performance.now()
  const response = await fetch(`${server.url}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  await report(`${what} (${response.status})`, start, text.length)
}

const chat = { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 1 }
const last = `a${String(Number(count) - 1).padStart(6, '0')}`
await ask('first request that names one', '/v1/chat/completions', { ...chat, model: last })
await ask('one adapter', `/v1/adapters/${last}`)
await ask('a page of 20', '/v1/adapters?limit=20')
await ask('a page of 20 again', '/v1/adapters?limit=20')
await ask('a list without a limit', '/v1/adapters')
await ask('models without a limit', '/v1/models')
await ask('request that names another', '/v1/chat/completions', { ...chat, model: 'a000007' })
await server.readLag()
const start = performance.now()
let numPages = 0
for (let after = ''; ; numPages++) {
  const response = await fetch(`${server.url}/v1/adapters?limit=100${after}`)
  const page = (await response.json()) as { last_id: string; has_more: boolean }
  after = `&after=${page.last_id}`
  if (!page.has_more) break
}
await report(`all pages (${numPages + 1})`, start, '')
mkdirSync(join(folder, 'new'))
await ask('a page of 20 after a change', '/v1/adapters?limit=20')
server.stop()
rmSync(folder, { recursive: true })
