// Runs the Dockerfile's own lines where there is no container engine: each stage is a folder, its RUN
// lines run there with this machine's Node, and the last stage's ENTRYPOINT is started and asked one
// question. It proves the steps, the files and the start; not the base image, nor its isolation.
//   node scripts/image-steps.mjs [--keep]     prints sizes and the answer; exit 1 when a step fails

import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root } from './setup.mjs'
import { startServer } from './start-server.mjs'

/** The official image's user "node". */
const nodeUser = 1000
const isRoot = process.getuid?.() === 0

/** A Dockerfile as [{instruction, flags, rest, line}]; comments and blank lines are gone. */
export function parseDockerfile(text) {
  return text
    .replaceAll('\\\n', ' ')
    .split('\n')
    .flatMap((line) => {
      const [, instruction, rest] = /^([A-Z]+)\s+(.*)$/.exec(line.trim()) ?? []
      if (instruction === undefined) return []
      const flags = Object.fromEntries(
        [...rest.matchAll(/(?:^|\s)--([a-z-]+)=(\S+)(?=\s)/g)].map(([, name, value]) => [
          name,
          value,
        ]),
      )
      const words = rest.replace(/^(--[a-z-]+=\S+\s+)+/, '')
      return [{ instruction, flags, rest: words, line: line.trim() }]
    })
}

/** The paths that .dockerignore lets through, of those that git tracks or would track. */
function contextFiles() {
  const allowed = readFileSync(join(root, '.dockerignore'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('!'))
    .map((line) => line.slice(1))
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const listed = spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout.split('\0')
  return listed.filter(
    (path) =>
      existsSync(join(root, path)) &&
      allowed.some((name) => path === name || path.startsWith(`${name}/`)),
  )
}

function makeContext(folder) {
  for (const path of contextFiles()) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    cpSync(join(root, path), join(folder, path))
  }
}

/** A path of the image in a stage's folder. */
const inStage = (stage, path) =>
  path.startsWith('/') ? join(stage.folder, path) : join(stage.folder, stage.workdir, path)

/** A file keeps its name in a folder; a folder's content becomes the target's, as COPY has it. */
function copy({ rest, flags }, stage, from) {
  const words = rest.split(/\s+/)
  const target = words.pop()
  const isFolder = target.endsWith('/') || words.length > 1
  for (const word of words) {
    const source = from(word)
    if (!existsSync(source)) throw new Error(`COPY: there is no ${word}`)
    const intoFolder = isFolder && !lstatSync(source).isDirectory()
    const path = inStage(stage, intoFolder ? join(target, basename(word)) : target)
    cpSync(source, path, { recursive: true, verbatimSymlinks: true })
    if (flags.chown && isRoot) chownSync(path, nodeUser, nodeUser)
  }
}

function shell(command, stage) {
  const { status, error } = spawnSync('/bin/sh', ['-c', command], {
    cwd: inStage(stage, '.'),
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...stage.env },
  })
  if (error || status !== 0) throw new Error(`RUN failed (${status}): ${command}`)
}

/** Runs every line; gives the last stage. Throws at what it does not know. */
export function buildStages(instructions, folder) {
  const context = join(folder, 'context')
  makeContext(context)
  const stages = []
  for (const step of instructions) {
    const { instruction, flags, rest, line } = step
    const stage = stages.at(-1)
    console.error(`image-steps: ${line}`)
    switch (instruction) {
      case 'FROM': {
        const [image, , name = 'runtime'] = rest.split(/\s+/)
        const next = {
          name,
          image,
          folder: join(folder, name),
          workdir: '/',
          env: {},
          user: 'root',
        }
        stages.push(next)
        break
      }
      case 'WORKDIR':
        stage.workdir = rest
        mkdirSync(inStage(stage, '.'), { recursive: true })
        break
      case 'ENV': {
        const [, name, value] = /^(\w+)=(\S*)$/.exec(rest) ?? []
        if (name === undefined) throw new Error(`ENV holds one NAME=value; got ${rest}`)
        stage.env[name] = value
        break
      }
      case 'COPY': {
        const origin = stages.find(({ name }) => name === flags.from)
        copy(step, stage, (path) => (origin ? inStage(origin, path) : join(context, path)))
        break
      }
      case 'RUN':
        shell(rest, stage)
        break
      case 'USER':
        stage.user = rest
        break
      case 'ENTRYPOINT':
        stage.entrypoint = JSON.parse(rest)
        break
      case 'HEALTHCHECK':
        stage.healthCheck = JSON.parse(rest.slice(rest.indexOf('CMD ') + 'CMD '.length))
        break
      case 'STOPSIGNAL':
      case 'EXPOSE':
      case 'VOLUME':
        stage[instruction.toLowerCase()] = rest
        break
      default:
        throw new Error(`image-steps does not know ${instruction}`)
    }
  }
  return stages.at(-1)
}

const freePort = () =>
  new Promise((done) => {
    const holder = createServer().listen(0, '127.0.0.1', () => {
      const { port } = holder.address()
      holder.close(() => done(port))
    })
  })

/** Starts the stage as the image would, as its user where this process may; asks; stops it. */
export async function serveOnce(stage) {
  // A path of the image is a path of this machine only inside the stage's folder.
  const local = Object.entries(stage.env).map(([name, value]) => [
    name,
    value.startsWith('/') ? inStage(stage, value) : value,
  ])
  const env = {
    PATH: process.env.PATH,
    HOME: '/nonexistent',
    ...Object.fromEntries(local),
    DUTYFREE_PORT: String(await freePort()),
    // Bound to this machine only: a build check opens no port to the network.
    DUTYFREE_HOST: '127.0.0.1',
  }
  const cwd = inStage(stage, '.')
  const user = isRoot && stage.user === 'node' ? { uid: nodeUser, gid: nodeUser } : {}
  const server = await startServer({
    command: stage.entrypoint,
    flags: [],
    options: { cwd, env, ...user },
  })
  try {
    const [program, ...args] = stage.healthCheck
    const health = spawnSync(program, args, { cwd, env, ...user, timeout: 10_000 })
    const models = await (await fetch(`${server.url}/v1/models`)).json()
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: models.data[0].id,
        messages: [{ role: 'user', content: 'Compute 43*8.' }],
        temperature: 0,
        max_tokens: 128,
      }),
      signal: AbortSignal.timeout(60_000),
    })
    const answer = await response.json()
    return {
      user: user.uid ?? process.getuid?.(),
      models: models.data.map(({ id }) => id),
      healthCheckExit: health.status,
      status: response.status,
      answer: answer.choices?.[0]?.message?.content ?? answer,
      stopExit: await server.stop(),
    }
  } catch (error) {
    await server.stop()
    throw error
  }
}

/** Bytes in files; links count nothing. */
function sizeOf(path) {
  const stat = lstatSync(path)
  if (!stat.isDirectory()) return stat.isFile() ? stat.size : 0
  return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0)
}

export async function runImageSteps({ keep = false } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'dutyfree-image-'))
  // The image's user has to get through it.
  chmodSync(folder, 0o755)
  try {
    const stage = buildStages(
      parseDockerfile(readFileSync(join(root, 'Dockerfile'), 'utf8')),
      folder,
    )
    const places = ['', 'node_modules', 'dist', 'models', 'adapters']
    const megabytes = Object.fromEntries(
      places.map((name) => {
        const bytes = sizeOf(name === '' ? stage.folder : inStage(stage, name))
        return [name || 'all above the base image', Number((bytes / 1e6).toFixed(1))]
      }),
    )
    return { folder, node: process.version, megabytes, ...(await serveOnce(stage)) }
  } finally {
    if (!keep) rmSync(folder, { recursive: true, force: true })
  }
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const report = await runImageSteps({ keep: process.argv.includes('--keep') })
  console.log(JSON.stringify(report, null, 2))
  const isGood = report.status === 200 && report.healthCheckExit === 0 && report.stopExit === 0
  process.exit(isGood ? 0 : 1)
}
