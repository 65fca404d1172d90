// The import table of ARCHITECTURE.md as data: which room may import which, and that nothing imports
// in a circle. A breach names the file and the import.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, it } from 'node:test'

interface Room {
  readonly name: string
  /** Path under server/, without .ts. */
  readonly holds: RegExp
  /** Our own files it may import, besides its own. */
  readonly ours: RegExp
  /** Packages and Node modules it may import. */
  readonly packages: RegExp
}

const shared = 'contracts/|errors$'
const nothing = /^$/

// First match wins.
const rooms: readonly Room[] = [
  { name: 'errors', holds: /^errors$/, ours: nothing, packages: nothing },
  { name: 'contracts', holds: /^contracts\//, ours: /^errors$/, packages: /^zod$/ },
  {
    name: 'config',
    holds: /^(config|flag-values)$/,
    ours: new RegExp(`^(${shared})`),
    packages: /^(zod|node:(os|path))$/,
  },
  {
    name: 'http',
    holds: /^http\//,
    ours: new RegExp(`^(${shared}|config$|engine/client$|safety/|metrics/)`),
    packages: /^(hono(\/.*)?|@hono\/node-server|zod|node:(http|net|crypto))$/,
  },
  { name: 'metrics', holds: /^metrics\//, ours: /^contracts\//, packages: /^prom-client$/ },
  {
    name: 'engine/client and protocol',
    holds:
      /^engine\/(client|huge-pages|late|replaceable-client|shared-observer|protocol|deferred|event-queue)$/,
    ours: new RegExp(
      `^(${shared}|engine/(client|huge-pages|late|replaceable-client|shared-observer|protocol|deferred|event-queue)$)`,
    ),
    packages: /^(zod|node:(child_process|url|path))$/,
  },
  {
    name: 'engine, pure part',
    holds:
      /^engine\/(scheduler|sequence|sampler|kv-cache|stop|random|logprobs|softmax|kept-tokens|detokenizer|prefix-cache|kv-shape|chunk-pace|cache-rows|step-runner)$/,
    ours: new RegExp(`^(${shared}|engine/)`),
    packages: nothing,
  },
  {
    name: 'engine, the process',
    holds: /^engine\//,
    ours: new RegExp(`^(${shared}|engine/|model/|adapters/)`),
    packages: /^node:/,
  },
  {
    name: 'model',
    holds: /^model\//,
    ours: new RegExp(`^(${shared}|graph/)`),
    packages: /^(node:.*|koffi|onnxruntime-node|@huggingface\/(tokenizers|jinja)|lru-cache|zod)$/,
  },
  {
    name: 'graph',
    holds: /^graph\//,
    ours: new RegExp(`^(${shared})`),
    packages: /^(onnx-proto|long|node:crypto)$/,
  },
  {
    name: 'adapters',
    holds: /^adapters\//,
    ours: new RegExp(`^(${shared}|model/safetensors)`),
    packages: /^(node:.*|lru-cache|zod)$/,
  },
  {
    name: 'hub',
    holds: /^hub\//,
    ours: new RegExp(`^(${shared})`),
    packages: /^(node:.*|zod|@huggingface\/hub)$/,
  },
  {
    name: 'safety',
    holds: /^safety\//,
    ours: new RegExp(`^(${shared}|engine/client$)`),
    packages: /^(zod|node:crypto)$/,
  },
  {
    name: 'serve',
    holds: /^serve$/,
    ours: new RegExp(`^(${shared}|http/|metrics/)`),
    packages: nothing,
  },
  { name: 'progress', holds: /^progress$/, ours: /^contracts\//, packages: nothing },
  { name: 'main', holds: /^main$/, ours: /./, packages: /./ },
]

/** Only these may know the runtime. */
const runtimePackages = /^(koffi|onnxruntime-node)$/
const knowsRuntime = /^model\/(session|onnxruntime|native-library)$/

const root = 'server'
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => path.replaceAll('\\', '/').slice(0, -'.ts'.length))

interface Import {
  readonly target: string
  readonly isOurs: boolean
  readonly isType: boolean
}

const importsOf = (file: string): readonly Import[] => {
  const code = readFileSync(join(root, `${file}.ts`), 'utf8')
  const pattern =
    /^(?:import|export)\s+(type\s)?[^'"`;]*?from\s+'([^']+)'|^import\s+'([^']+)'|import\(\s*'([^']+)'\s*\)/gm
  return [...code.matchAll(pattern)].map(([, type, from, bare, dynamic]) => {
    const target = (from ?? bare ?? dynamic) as string
    const isOurs = target.startsWith('.')
    const path = relative(root, join(root, dirname(file), target)).replaceAll('\\', '/')
    return {
      target: isOurs ? path.replace(/\.ts$/, '') : target,
      isOurs,
      isType: type !== undefined,
    }
  })
}

describe('architecture', () => {
  it('every file is in a room', () => {
    const homeless = files.filter((file) => !rooms.some(({ holds }) => holds.test(file)))
    assert.deepEqual(homeless, [])
  })

  it('rooms import only what the table allows', () => {
    const breaches = files.flatMap((file) => {
      const room = rooms.find(({ holds }) => holds.test(file))
      if (room === undefined) return []
      return importsOf(file)
        .filter(({ target, isOurs }) =>
          isOurs
            ? !room.holds.test(target) && !room.ours.test(target)
            : !room.packages.test(target),
        )
        .map(({ target }) => `${file} (${room.name}) imports ${target}`)
    })
    assert.deepEqual(breaches, [])
  })

  it('only the session knows koffi and ONNX Runtime', () => {
    const breaches = files.filter(
      (file) =>
        !knowsRuntime.test(file) &&
        importsOf(file).some(({ target }) => runtimePackages.test(target)),
    )
    assert.deepEqual(breaches, [])
  })

  it('main is imported by none', () => {
    const importers = files.filter((file) =>
      importsOf(file).some(({ target }) => target === 'main'),
    )
    assert.deepEqual(importers, [])
  })

  it('nothing imports in a circle; types may, they are gone at run time', () => {
    const graph = new Map(
      files.map((file) => [
        file,
        importsOf(file).flatMap(({ target, isOurs, isType }) =>
          isOurs && !isType ? [target] : [],
        ),
      ]),
    )
    const finished = new Set<string>()
    const visit = (file: string, path: readonly string[]): void => {
      assert.ok(!path.includes(file), `circle: ${[...path, file].join(' → ')}`)
      if (finished.has(file)) return
      for (const target of graph.get(file) ?? []) visit(target, [...path, file])
      finished.add(file)
    }
    for (const file of files) visit(file, [])
  })

  it('imports that lead nowhere are found', () => {
    const lost = files.flatMap((file) =>
      importsOf(file)
        .filter(({ target, isOurs }) => isOurs && !files.includes(target))
        .map(({ target }) => `${file} imports ${target}`),
    )
    assert.deepEqual(lost, [])
  })
})
