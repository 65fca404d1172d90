// The rooms of server/ and what each may import, from the top down: a room imports only rooms that
// stand below it.

export interface Room {
  /** Folder under server/, or a file in server/ itself. */
  readonly name: string
  readonly does: string
  /** Rooms it imports. */
  readonly ours: readonly string[]
  /** Packages and Node modules it imports. */
  readonly packages: readonly string[]
}

export const rooms: readonly Room[] = [
  {
    name: 'main',
    does: 'starts the front and its engine',
    ours: [
      'serve',
      'metrics',
      'hub',
      'config',
      'progress',
      'checkpoint',
      'engine-client',
      'contracts',
      'errors',
    ],
    packages: ['node:fs', 'node:path', 'node:timers/promises', 'node:url', 'pino'],
  },
  {
    name: 'export-model',
    does: 'exports a GGUF file',
    ours: ['export', 'progress', 'contracts', 'errors'],
    packages: ['node:fs', 'node:path', 'node:util', 'pino'],
  },
  {
    name: 'serve',
    does: 'wires the front together',
    ours: ['http', 'metrics', 'contracts'],
    packages: [],
  },
  {
    name: 'http',
    does: 'routes, gates, streams',
    ours: ['http/wire', 'http/reply', 'http/request', 'config', 'contracts', 'errors'],
    packages: [
      '@hono/node-server',
      'hono',
      'hono/route',
      'node:crypto',
      'node:http',
      'node:net',
      'zod',
    ],
  },
  {
    name: 'http/wire',
    does: 'bytes in and out, in slices',
    ours: ['http/reply'],
    packages: ['node:http', 'node:net', 'node:timers/promises'],
  },
  {
    name: 'http/reply',
    does: 'events → JSON, pure',
    ours: ['contracts'],
    packages: [],
  },
  {
    name: 'http/request',
    does: 'bytes → GenerateRequest, pure',
    ours: ['contracts', 'errors'],
    packages: ['node:crypto', 'zod'],
  },
  {
    name: 'metrics',
    does: 'Prometheus',
    ours: ['contracts'],
    packages: ['prom-client'],
  },
  {
    name: 'hub',
    does: 'a checkpoint from a hub',
    ours: ['checkpoint', 'contracts', 'errors'],
    packages: [
      '@huggingface/hub',
      'node:crypto',
      'node:fs',
      'node:fs/promises',
      'node:os',
      'node:path',
      'node:timers/promises',
      'zod',
    ],
  },
  {
    name: 'config',
    does: 'flags',
    ours: ['flag-values', 'contracts', 'errors'],
    packages: ['node:os', 'node:path', 'node:util', 'zod'],
  },
  {
    name: 'flag-values',
    does: 'values of flags',
    ours: ['contracts'],
    packages: [],
  },
  {
    name: 'progress',
    does: 'one line of progress',
    ours: ['contracts'],
    packages: [],
  },
  {
    name: 'engine',
    does: 'the engine process',
    ours: [
      'model',
      'conversion',
      'adapters',
      'runtime',
      'loop',
      'turns',
      'tokenizer',
      'checkpoint',
      'threads',
      'engine-client',
      'contracts',
      'errors',
    ],
    packages: ['node:fs', 'node:os', 'node:path', 'node:worker_threads'],
  },
  {
    name: 'model',
    does: 'a step on a device',
    ours: ['runtime', 'graph', 'contracts', 'errors'],
    packages: [],
  },
  {
    name: 'export',
    does: 'GGUF → Hugging Face folder',
    ours: ['conversion', 'checkpoint', 'gguf-model', 'gguf', 'contracts', 'errors'],
    packages: ['node:crypto', 'node:fs', 'node:path'],
  },
  {
    name: 'conversion',
    does: 'checkpoint → cache folder',
    ours: ['graph', 'checkpoint', 'threads', 'contracts', 'errors'],
    packages: ['node:crypto', 'node:fs', 'node:os', 'node:path', 'zod'],
  },
  {
    name: 'adapters',
    does: 'PEFT folders, resident adapters',
    ours: ['checkpoint', 'threads', 'contracts', 'errors'],
    packages: [
      'lru-cache',
      'node:crypto',
      'node:fs',
      'node:fs/promises',
      'node:path',
      'node:timers/promises',
      'zod',
    ],
  },
  {
    name: 'runtime',
    does: 'ONNX Runtime, devices',
    ours: ['graph', 'contracts', 'errors'],
    packages: ['koffi', 'node:fs', 'node:module', 'node:path', 'node:url'],
  },
  {
    name: 'loop',
    does: 'the step loop, KV cache',
    ours: ['turns', 'sampling', 'contracts', 'errors'],
    packages: ['lru-cache'],
  },
  {
    name: 'turns',
    does: 'whose turn it is, pure',
    ours: ['contracts'],
    packages: [],
  },
  {
    name: 'sampling',
    does: 'logits → token → text, pure',
    ours: ['contracts'],
    packages: [],
  },
  {
    name: 'tokenizer',
    does: 'text ↔ tokens, chat template',
    ours: ['checkpoint', 'gguf-model', 'gguf', 'contracts', 'errors'],
    packages: ['@huggingface/jinja', 'node:fs', 'node:path', 'zod'],
  },
  {
    name: 'graph',
    does: 'ONNX graphs, pure',
    ours: ['contracts'],
    packages: ['onnx-proto'],
  },
  {
    name: 'checkpoint',
    does: 'disk → config, tensors',
    ours: ['gguf-model', 'gguf', 'contracts', 'errors'],
    packages: ['node:crypto', 'node:fs', 'node:path', 'zod'],
  },
  {
    name: 'gguf-model',
    does: 'GGUF metadata → Hugging Face JSON, names',
    ours: ['gguf', 'errors'],
    packages: ['node:path', 'zod'],
  },
  {
    name: 'gguf',
    does: 'GGUF files → metadata, tensors',
    ours: ['contracts', 'errors'],
    packages: ['node:fs', 'node:path'],
  },
  {
    name: 'threads',
    does: 'tasks in threads of their own',
    ours: ['errors'],
    packages: ['node:path', 'node:worker_threads'],
  },
  {
    name: 'engine-client',
    does: "the front's side of the engine, protocol",
    ours: ['contracts', 'errors'],
    packages: ['node:child_process'],
  },
  {
    name: 'contracts',
    does: 'what rooms say to one another',
    ours: ['errors'],
    packages: ['zod'],
  },
  {
    name: 'errors',
    does: 'every error code',
    ours: [],
    packages: [],
  },
]

/** The table of ARCHITECTURE.md. */
export function renderRooms(): string {
  const list = (names: readonly string[]) => names.join(', ') || '–'
  const packagesOf = ({ packages }: Room) =>
    list(packages.filter((name) => !name.startsWith('node:')))
  const lines = rooms.map(
    (room) => `| ${room.name} | ${room.does} | ${list(room.ours)} | ${packagesOf(room)} |`,
  )
  return `${['| room | does | imports | packages |', '| --- | --- | --- | --- |', ...lines].join('\n')}\n`
}
