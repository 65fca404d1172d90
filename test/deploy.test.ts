// deploy/kubernetes: both sides agree, and the front's flags are flags of this server.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { parseCommand } from '../server/config.ts'
import { linearModules } from '../server/contracts/checkpoint.ts'
import { root } from './support/root.ts'

const folder = join(root, 'deploy', 'kubernetes')
const read = (name: string) => readFileSync(join(folder, name), 'utf8')

/** Items of the `args` of a file's only container. */
function argsOf(name: string): string[] {
  const list = /\n( +)args:\n([\s\S]*?)\n\1\w/.exec(read(name))?.[2]
  assert.ok(list, `${name} has args`)
  return list
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith('- '))
    .map((line) => line.slice(2))
}

const flagOf = (args: readonly string[], flag: string) =>
  args.find((arg) => arg.startsWith(`--${flag}=`))?.slice(flag.length + 3)

const mountsOf = (name: string) =>
  new Map(
    [...read(name).matchAll(/- name: (\S+)\n\s+mountPath: (\S+)/g)].map((match) => [
      match[1]!,
      match[2]!,
    ]),
  )

describe('deploy/kubernetes', () => {
  const front = argsOf('front.yaml')
  const vllm = argsOf('vllm.yaml')
  const command = parseCommand(front, {})
  assert.ok(command.kind === 'serve')
  const { config } = command

  it('the fronts’ flags are taken, and their requests have a floor', () => {
    assert.equal(config.engine, 'vllm')
    assert.ok(config.requireAdapter)
    assert.ok(config.apiKeyFile && config.upstreamKeyFile)
  })

  it('what is registered lies at one path on both sides, and only fronts write it', () => {
    assert.equal(config.upstreamAdapters, mountsOf('front.yaml').get('registered'))
    assert.equal(mountsOf('vllm.yaml').get('registered'), config.upstreamAdapters)
    assert.match(
      read('vllm.yaml'),
      /name: registered\n\s+mountPath: \/registered\n\s+readOnly: true/,
    )
  })

  it('both serve the same checkpoint', () => {
    assert.equal(config.model, mountsOf('front.yaml').get('model'))
    assert.equal(flagOf(vllm, 'model'), mountsOf('vllm.yaml').get('model'))
  })

  it('vLLM takes adapters as large, as many and while it runs, and tells what is cached', () => {
    assert.ok(Number(flagOf(vllm, 'max-lora-rank')) >= config.maxAdapterRank)
    assert.ok(Number(flagOf(vllm, 'max-loras')) >= config.upstreamSlots!)
    for (const flag of ['--enable-lora', '--enable-prompt-tokens-details'])
      assert.ok(vllm.includes(flag))
    assert.match(read('vllm.yaml'), /VLLM_ALLOW_RUNTIME_LORA_UPDATING\n\s+value: 'True'/)
  })

  it('vLLM prepares the modules that adapters of ours may change, and no other', () => {
    const at = vllm.indexOf('--lora-target-modules') + 1
    const numNamed = vllm.slice(at).findIndex((arg) => !/^\w+$/.test(arg))
    assert.deepEqual(vllm.slice(at, at + numNamed), [...linearModules])
  })

  it('vLLM may end what it has begun before it is killed', () => {
    const grace = Number(/terminationGracePeriodSeconds: (\d+)/.exec(read('vllm.yaml'))?.[1])
    assert.ok(grace > Number(flagOf(vllm, 'shutdown-timeout')))
  })

  it('every pod that the autoscaler may start has its address', () => {
    const most = Number(
      /name: vllm\n\s+minReplicas: \d+\n\s+maxReplicas: (\d+)/.exec(read('autoscaling.yaml'))?.[1],
    )
    const port = flagOf(vllm, 'port')
    const addresses = Array.from({ length: most }, (_, i) => `http://vllm-${i}.vllm:${port}`)
    assert.deepEqual(config.upstream, addresses)
  })

  it('a front may drain before it is killed', () => {
    const grace = Number(/terminationGracePeriodSeconds: (\d+)/.exec(read('front.yaml'))?.[1])
    const pause = Number(/command: \[sleep, '(\d+)'\]/.exec(read('front.yaml'))?.[1])
    assert.ok(grace * 1000 > config.drainTimeout + pause * 1000)
  })

  it('a front without an upstream is not ready, and is not started again for it', () => {
    const probes = [...read('front.yaml').matchAll(/(\w+)Probe:\n\s+httpGet:\n\s+path: (\S+)/g)]
    assert.deepEqual(Object.fromEntries(probes.map(([, name, path]) => [name, path])), {
      startup: '/health/live',
      readiness: '/health/ready',
      liveness: '/health/live',
    })
  })

  it('every file is applied, but the optional one', () => {
    const applied = [...read('kustomization.yaml').matchAll(/ - (\S+\.yaml)/g)].map(
      ([, name]) => name,
    )
    const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'))
    const rest = files.filter((name) => !applied.includes(name))
    assert.deepEqual(rest.sort(), ['inference-pool.yaml', 'kustomization.yaml'])
  })
})
