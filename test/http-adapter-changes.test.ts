// Uploads and the other changes of adapters as clients ask for them: what a body may be, who may, and that
// nothing is left of what failed. The engine is a fake one.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs, { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { connect } from 'node:net'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { type AdapterChange, incomingFolder } from '../server/contracts/adapter.ts'
import { ServerError } from '../server/errors.ts'
import { within } from './support/deadline.ts'
import { createFakeEngine } from './support/fake-engine.ts'
import { createFront, listen, readJson, until } from './support/front.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const patience = 10_000
const admin = { authorization: 'Bearer boss' }
const maxUpload = 1_000_000
const closing: Array<() => Promise<void>> = []
after(async () => {
  for (const close of closing) await close()
})
let numRoots = 0

type Change = (change: AdapterChange, files: Readonly<Record<string, string>>) => void

/** A server on a socket; the engine hands on what an upload brought. */
async function createWorld(
  onChange: Change = () => {},
  { adminKey = 'boss' as string | null } = {},
) {
  const root = join(temp, `root-${++numRoots}`)
  mkdirSync(root)
  const incoming = join(root, incomingFolder)
  const engine = createFakeEngine()
  const { changeAdapter } = engine
  engine.changeAdapter = async (change) => {
    const files: Record<string, string> = {}
    if (change.kind === 'install') {
      const folder = join(incoming, change.staged)
      for (const name of readdirSync(folder)) files[name] = readFileSync(join(folder, name), 'utf8')
    }
    onChange(change, files)
    return changeAdapter(change)
  }
  const front = createFront({ engine, config: { adminKey, adapters: root, maxUpload } })
  const { url, port, close } = await listen(front)
  closing.push(close)
  return {
    root,
    front,
    url,
    port,
    leftovers: () => (existsSync(incoming) ? readdirSync(incoming) : []),
    upload: (body: FormData | string, headers: Record<string, string> = {}) =>
      fetch(`${url}/v1/adapters`, { method: 'POST', body, headers: { ...admin, ...headers } }),
    post: (path: string, body: object | string, headers: Record<string, string> = admin) =>
      fetch(`${url}${path}`, {
        method: 'POST',
        body: typeof body === 'string' ? body : JSON.stringify(body),
        headers: { 'content-type': 'application/json', ...headers },
      }),
  }
}

interface Part {
  readonly name: string
  readonly fileName?: string
  readonly text: string
}

const file = (fileName: string, text: string): Part => ({ name: 'file', fileName, text })
const field = (name: string, text: string): Part => ({ name, text })
const good: readonly Part[] = [
  field('name', 'new-one'),
  file('adapter_config.json', '{"r": 1}'),
  file('adapter_model.safetensors', 'tensors'),
]

function form(parts: readonly Part[]): FormData {
  const data = new FormData()
  for (const { name, fileName, text } of parts) {
    if (fileName === undefined) data.append(name, text)
    else data.append(name, new Blob([text]), fileName)
  }
  return data
}

const raw = { 'content-type': 'multipart/form-data; boundary=B' }
const rawPart = (fileName: string, text: string): string =>
  `--B\r\ncontent-disposition: form-data; name="file"; filename="${fileName}"\r\n\r\n${text}\r\n`

describe('an upload', () => {
  it('reaches the engine as synced files, with its conditions, and leaves nothing', async () => {
    const seen: unknown[] = []
    const world = await createWorld((change, files) => seen.push(change, files))
    const digest = 'a'.repeat(64)
    const more = [
      file('manifest.json', '{}'),
      field('replace', 'true'),
      field('digest', digest),
      field('pinned', 'false'),
    ]
    const response = await world.upload(form([...good, ...more]))
    assert.equal(response.status, 201)
    const body = await readJson(response)
    assert.deepEqual([body.id, body.change], ['new-one', { outcome: 'added', runningRequests: 0 }])
    const [{ staged, ...change }, files] = seen as [{ staged: string }, object]
    const conditions = { replace: true, digest, pinned: false }
    assert.deepEqual(change, { kind: 'install', id: 'new-one', ...conditions })
    assert.deepEqual(files, {
      'adapter_config.json': '{"r": 1}',
      'adapter_model.safetensors': 'tensors',
      'manifest.json': '{}',
    })
    assert.match(staged, /^[0-9a-f]{12}\.\d+\./)
    assert.deepEqual(world.leftovers(), [])
  })

  it('may name its files as fields, as browsers do, and replace a digest', async () => {
    const seen: AdapterChange[] = []
    const world = await createWorld((change) => seen.push(change))
    const parts = [
      { name: 'adapter_config.json', fileName: 'blob', text: '{}' },
      { name: 'adapter_model.safetensors', fileName: 'blob', text: '' },
      field('replace', 'b'.repeat(64)),
      field('name', 'x'),
    ]
    assert.equal((await world.upload(form(parts))).status, 201)
    assert.deepEqual((seen[0] as { replace: object }).replace, { digest: 'b'.repeat(64) })
  })

  it('that the engine refuses leaves nothing, and says what the engine says', async () => {
    const world = await createWorld(() => {
      throw new ServerError('adapter_exists', 'There is one.', { param: 'id' })
    })
    const response = await world.upload(form(good))
    const { error } = await readJson(response)
    assert.deepEqual(
      [response.status, error.code, error.message],
      [409, 'adapter_exists', 'There is one.'],
    )
    assert.equal(response.headers.get('x-should-retry'), 'false')
    assert.deepEqual(world.leftovers(), [])
  })

  const many = (count: number, make: (i: number) => Part): Part[] =>
    Array.from({ length: count }, (_, i) => make(i))
  const bad: readonly (readonly [string, readonly Part[], number, string, RegExp])[] = [
    ['without a name', good.slice(1), 400, 'invalid_value', /^name must be .*it is missing/],
    [
      'with an empty name',
      [field('name', ''), ...good.slice(1)],
      400,
      'invalid_value',
      /^name must/,
    ],
    ...['../x', 'a/b', 'a\\b', '__proto__', 'a'.repeat(65), '.x', 'none', 'tiny', 'ä'].map(
      (name) =>
        [
          `with the name ${name}`,
          [field('name', name), ...good.slice(1)],
          400,
          'invalid_value',
          /^name must be 1 to 64 letters/,
        ] as const,
    ),
    [
      'with a pickle',
      [...good, file('adapter_model.bin', 'x')],
      400,
      'unsupported_adapter',
      /pickle/,
    ],
    ['with a zip', [...good, file('adapter.zip', 'x')], 400, 'invalid_adapter', /no archive/],
    [
      'with a path',
      [...good, file('a/manifest.yaml', 'x')],
      400,
      'invalid_adapter',
      /"manifest.yaml"/,
    ],
    ['with a file twice', [...good, good[1]!], 400, 'invalid_request', /adapter_config.json twice/],
    ['with a field twice', [...good, good[0]!], 400, 'invalid_request', /"name" is too long, or/],
    ['with an unknown field', [...good, field('sha', 'x')], 400, 'unsupported_parameter', /"sha"/],
    ['with a wrong digest', [...good, field('digest', 'x')], 400, 'invalid_value', /64 hex/],
    ['with a wrong replace', [...good, field('replace', '1')], 400, 'invalid_value', /^replace /],
    [
      'with a long field',
      [...good, field('x', 'y'.repeat(999))],
      400,
      'invalid_request',
      /too long/,
    ],
    [
      'with 10,000 parts',
      many(10_000, () => field('x', 'y')),
      400,
      'invalid_request',
      /twice|parts/,
    ],
    ['with 17 fields', many(17, (i) => field(`x${i}`, 'y')), 400, 'invalid_request', /too many/],
    [
      'with a long config',
      [...good.slice(0, 1), file('adapter_config.json', ' '.repeat(999_000) + ' '.repeat(2000))],
      413,
      'request_too_large',
      /--max-upload/,
    ],
    [
      'with a long manifest',
      [...good, file('manifest.json', ' '.repeat(128_001))],
      400,
      'invalid_adapter',
      /manifest.json has more than 128000 bytes/,
    ],
  ]
  for (const [what, parts, status, code, message] of bad) {
    it(`${what.slice(0, 40)} is ${status} ${code}, and the next one works`, async () => {
      const world = await createWorld()
      const response = await world.upload(form(parts))
      const { error } = await readJson(response)
      assert.deepEqual([response.status, error.code], [status, code], error.message)
      assert.match(error.message, message)
      assert.doesNotMatch(error.message, /root-|dutyfree-test/)
      assert.deepEqual([world.leftovers(), world.front.engine.changes], [[], []])
      assert.equal((await world.upload(form(good))).status, 201)
    })
  }

  const malformed: readonly (readonly [string, string, Record<string, string>, RegExp])[] = [
    ['cut before its end', rawPart('adapter_config.json', '{}'), raw, /not complete/],
    ['cut in a file', rawPart('adapter_config.json', '{}').slice(0, -3), raw, /not complete/],
    ['no part at all', 'nothing', raw, /not complete/],
    ['empty', '', raw, /not complete/],
    ['without boundary', 'x', { 'content-type': 'multipart/form-data' }, /boundary/],
    [
      'with a broken header',
      '--B\r\nno header\r\n\r\nx\r\n--B--\r\n',
      raw,
      /^name must|not complete/,
    ],
  ]
  for (const [what, body, headers, message] of malformed) {
    it(`that is ${what} is 400`, async () => {
      const world = await createWorld()
      const response = await world.upload(body, headers)
      const { error } = await readJson(response)
      assert.equal(response.status, 400, error.message)
      assert.match(error.message, message)
      assert.deepEqual([world.leftovers(), world.front.engine.changes], [[], []])
    })
  }

  it('of another type, or packed, is 415', async () => {
    const world = await createWorld()
    for (const type of ['application/zip', 'application/x-tar', 'text/plain', 'multipart/mixed']) {
      assert.equal((await world.upload('x', { 'content-type': type })).status, 415, type)
    }
    const packed = { ...raw, 'content-encoding': 'gzip' }
    assert.equal((await world.upload('x', packed)).status, 415)
  })

  it('that says it is too large is 413 before it is read', async () => {
    const world = await createWorld()
    const socket = connect(world.port, '127.0.0.1')
    socket.write(
      'POST /v1/adapters HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer boss\r\n' +
        `content-type: ${raw['content-type']}\r\ncontent-length: ${maxUpload + 1}\r\n\r\n`,
    )
    const [answer] = await within(patience, 'answer', once(socket, 'data'))
    assert.match(String(answer), /^HTTP\/1.1 413 /)
    socket.destroy()
    assert.deepEqual(world.leftovers(), [])
  })

  it('without a length is counted while it comes: 413, and it is not read to its end', async () => {
    const world = await createWorld()
    const socket = connect(world.port, '127.0.0.1')
    let numSent = 0
    let answer = ''
    const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`
    const piece = chunk('x'.repeat(65_536))
    const send = () => {
      for (let more = true; more && socket.writable; numSent += piece.length) {
        more = socket.write(piece)
      }
    }
    socket.on('drain', send).on('error', () => {})
    socket.on('data', (bytes) => {
      answer += bytes
    })
    socket.write(
      'POST /v1/adapters HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer boss\r\n' +
        `content-type: ${raw['content-type']}\r\ntransfer-encoding: chunked\r\n\r\n` +
        chunk(rawPart('adapter_model.safetensors', '')),
    )
    send()
    const closed = new Promise((resolve) => socket.once('close', resolve))
    await within(patience, 'end of the connection', closed)
    // A client that still sends may see no more than the end.
    assert.match(answer, /^(HTTP\/1.1 413 .*|$)/s)
    assert.ok(world.front.log.some(({ fields }) => fields.status === 413))
    assert.ok(numSent < 64_000_000)
    await until(patience, 'no leftovers', () => world.leftovers().length === 0)
  })

  it('that breaks off leaves nothing, and the server goes on', async () => {
    const world = await createWorld()
    const socket = connect(world.port, '127.0.0.1')
    socket.write(
      'POST /v1/adapters HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer boss\r\n' +
        `content-type: ${raw['content-type']}\r\ncontent-length: 900000\r\n\r\n` +
        rawPart('adapter_model.safetensors', 'x'.repeat(100_000)),
    )
    const incoming = join(world.root, incomingFolder)
    const hasFile = () =>
      world.leftovers().some((name) => readdirSync(join(incoming, name)).length > 0)
    await until(patience, 'file on the disk', hasFile)
    socket.destroy()
    await until(patience, 'no leftovers', () => world.leftovers().length === 0)
    await until(patience, 'log line', () =>
      world.front.log.some(({ fields }) => fields.status === 499),
    )
    assert.equal((await world.upload(form(good))).status, 201)
  })

  for (const [code, status, expected] of [
    ['ENOSPC', 507, 'storage_full'],
    ['EMFILE', 503, 'storage_unavailable'],
    ['EROFS', 503, 'storage_unavailable'],
  ] as const) {
    it(`on a disk that fails with ${code} is ${status}, without a leftover`, async () => {
      const world = await createWorld()
      const { write } = fs
      const failing = (...args: readonly unknown[]) => {
        const callback = args.at(-1) as (error: Error) => void
        callback(Object.assign(new Error(code), { code, syscall: 'write' }))
      }
      Object.assign(fs, { write: failing, writev: failing })
      syncBuiltinESMExports()
      try {
        const response = await world.upload(form(good))
        const { error } = await readJson(response)
        assert.deepEqual([response.status, error.code], [status, expected], error.message)
      } finally {
        Object.assign(fs, { write })
        syncBuiltinESMExports()
      }
      assert.deepEqual(world.leftovers(), [])
    })
  }

  it('is one of four at most; the fifth is 429', async () => {
    const world = await createWorld()
    const sockets = Array.from({ length: 4 }, () => {
      const socket = connect(world.port, '127.0.0.1')
      socket.write(
        'POST /v1/adapters HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer boss\r\n' +
          `content-type: ${raw['content-type']}\r\ncontent-length: 900000\r\n\r\n--B\r\n`,
      )
      return socket
    })
    await until(patience, 'four uploads', () => world.leftovers().length === 4)
    const response = await world.upload(form(good))
    assert.deepEqual([response.status, response.headers.get('retry-after')], [429, '1'])
    for (const socket of sockets) socket.destroy()
    await until(patience, 'no leftovers', () => world.leftovers().length === 0)
    assert.equal((await world.upload(form(good))).status, 201)
  })

  it('of an earlier process is deleted at the start, of a running one not', async () => {
    const first = await createWorld()
    const incoming = join(first.root, incomingFolder)
    await first.upload(form(good))
    const [host] = (first.front.engine.changes[0] as { staged: string }).staged.split('.')
    // A process that has ended has no number that the system could give: the largest is 2^22.
    for (const name of [
      `${host}.4194305.a`,
      `${host}.${process.ppid}.b`,
      'ffffffffffff.4194305.c',
    ]) {
      mkdirSync(join(incoming, name), { recursive: true })
    }
    const config = { adminKey: 'boss', adapters: first.root }
    const next = createFront({ config })
    await next.request('/v1/adapters', { method: 'POST', body: form(good), headers: admin })
    assert.deepEqual(
      readdirSync(incoming).sort(),
      [`${host}.${process.ppid}.b`, 'ffffffffffff.4194305.c'].sort(),
    )
  })
})

describe('a load by name', () => {
  it('has the folder of its name unless another is given', async () => {
    const world = await createWorld()
    const conditions = { digest: null, pinned: null }
    assert.equal((await world.post('/v1/adapters', { name: 'a' })).status, 201)
    await world.post('/v1/adapters', { name: 'a', folder: 'sub/b', pinned: true })
    assert.deepEqual(world.front.engine.changes, [
      { kind: 'load', id: 'a', folder: 'a', replace: true, ...conditions },
      { kind: 'load', id: 'a', folder: 'sub/b', replace: false, ...conditions, pinned: true },
    ])
  })

  it('is refused with its field', async () => {
    const world = await createWorld()
    for (const [body, param] of [
      [{}, 'name'],
      [{ name: 1 }, 'name'],
      [{ name: '../a' }, 'name'],
      [{ name: 'a', folder: '' }, 'folder'],
      [{ name: 'a', replace: 'yes' }, 'replace'],
      [{ name: 'a', digest: 'A'.repeat(64) }, 'digest'],
      [{ name: 'a', pinned: 1 }, 'pinned'],
      [{ name: 'a', path: '/etc' }, 'path'],
    ] as const) {
      const response = await world.post('/v1/adapters', body)
      assert.deepEqual([response.status, (await readJson(response)).error.param], [400, param])
    }
    assert.deepEqual(world.front.engine.changes, [])
  })
})

describe('a removal', () => {
  const remove = (url: string, path: string) =>
    fetch(`${url}/v1/adapters/${path}`, { method: 'DELETE', headers: admin })

  it('says what still runs', async () => {
    const world = await createWorld()
    const { engine } = world.front
    engine.changeAdapter = async () => ({ outcome: 'removed', adapter: null, runningRequests: 2 })
    const response = await remove(world.url, 'safety-r1?wait=3')
    assert.equal(response.status, 200)
    const body = { id: 'safety-r1', object: 'adapter', deleted: true }
    assert.deepEqual(await response.json(), { ...body, runningRequests: 2, isFreed: false })
  })

  it('waits no longer than 30 seconds', async () => {
    const world = await createWorld()
    for (const wait of ['31', '-1', 'x', '1.5', '']) {
      const response = await remove(world.url, `safety-r1?wait=${wait}`)
      assert.deepEqual(
        [response.status, (await readJson(response)).error.param],
        [400, 'wait'],
        wait,
      )
    }
  })
})

describe('who may change adapters', () => {
  const calls: readonly (readonly [string, string])[] = [
    ['POST', '/v1/adapters'],
    ['DELETE', '/v1/adapters/safety-r1'],
    ['POST', '/v1/load_lora_adapter'],
    ['POST', '/v1/unload_lora_adapter'],
    ['POST', '/load_lora_adapter'],
    ['POST', '/unload_lora_adapter'],
  ]
  const outcome = async (config: object, headers: Record<string, string>) => {
    const front = createFront({ config })
    const found = new Set<string>()
    for (const [method, path] of calls) {
      const response = await front.request(path, { method, headers })
      const { error } = await readJson(response)
      found.add(`${response.status} ${error.code}`)
    }
    assert.deepEqual(front.engine.changes, [])
    return [...found].join()
  }
  const keys = { apiKey: ['user'], adminKey: 'boss' }

  it('nobody, where there is no admin key', async () => {
    assert.equal(await outcome({}, {}), '403 insufficient_permissions')
    assert.equal(await outcome({}, admin), '403 insufficient_permissions')
    const user = { authorization: 'Bearer user' }
    assert.equal(await outcome({ apiKey: ['user'] }, user), '403 insufficient_permissions')
  })

  it('none but the admin key', async () => {
    const user = { authorization: 'Bearer user' }
    assert.equal(await outcome(keys, user), '403 insufficient_permissions')
    assert.equal(await outcome(keys, {}), '401 invalid_api_key')
    assert.equal(await outcome({ adminKey: 'boss' }, user), '401 invalid_api_key')
  })

  it('the admin key may ask for answers too, and other callers are as before', async () => {
    for (const config of [keys, { adminKey: 'boss' }]) {
      const front = createFront({ config })
      for (const path of ['/v1/models', '/v1/adapters', '/metrics']) {
        assert.equal((await front.request(path, { headers: admin })).status, 200, path)
      }
    }
    const open = createFront({ config: { adminKey: 'boss' } })
    assert.equal((await open.request('/v1/models')).status, 200)
    const headers = { authorization: 'Bearer unused' }
    assert.equal((await open.request('/v1/models', { headers })).status, 200)
  })
})

describe('what a vLLM client sends', () => {
  const added = "Success: LoRA adapter 'sql' added successfully."
  const load = { lora_name: 'sql', lora_path: 'sql-v1' }

  for (const prefix of ['/v1', '']) {
    it(`to ${prefix}/load_lora_adapter and ${prefix}/unload_lora_adapter is answered as there`, async () => {
      const world = await createWorld()
      const loaded = await world.post(`${prefix}/load_lora_adapter`, load)
      assert.deepEqual([loaded.status, await loaded.text()], [200, added])
      const more = { load_inplace: true, base_model_name: 'x', is_3d_lora_weight: false }
      await world.post(`${prefix}/load_lora_adapter`, { ...load, ...more })
      const gone = await world.post(`${prefix}/unload_lora_adapter`, {
        lora_name: 'sql',
        lora_int_id: 1,
      })
      const removed = "Success: LoRA adapter 'sql' removed successfully."
      assert.deepEqual([gone.status, await gone.text()], [200, removed])
      const of = { kind: 'load', id: 'sql', folder: 'sql-v1', digest: null, pinned: null }
      assert.deepEqual(world.front.engine.changes, [
        { ...of, replace: false },
        { ...of, replace: true },
        { kind: 'remove', id: 'sql', waitMs: 0, keepsFiles: true },
      ])
    })
  }

  it('and is wrong gets its errors', async () => {
    const world = await createWorld()
    const errorOf = async (path: string, body: object) => {
      const response = await world.post(path, body)
      const { error } = await readJson(response)
      assert.equal(response.status, error.code)
      return [error.code, error.type, error.message]
    }
    const missing = "Both 'lora_name' and 'lora_path' must be provided."
    const path = '/v1/load_lora_adapter'
    for (const body of [{}, { lora_name: 'sql' }, { lora_path: 'x' }, { ...load, lora_name: '' }]) {
      assert.deepEqual(await errorOf(path, body), [400, 'InvalidUserInput', missing])
    }
    const [status, type] = await errorOf(path, { ...load, lora_name: '../x' })
    assert.deepEqual([status, type], [400, 'InvalidUserInput'])
    const { engine } = world.front
    const failWith = (error: ServerError) => {
      engine.changeAdapter = () => Promise.reject(error)
    }
    failWith(new ServerError('adapter_exists', 'There is one.'))
    assert.deepEqual(await errorOf(path, load), [
      400,
      'InvalidUserInput',
      "The lora adapter 'sql' has already been loaded. If you want to load the adapter in place, " +
        "set 'load_inplace' to True.",
    ])
    failWith(new ServerError('model_not_found', 'There is none.'))
    const gone = [404, 'NotFoundError', 'There is none.']
    assert.deepEqual(await errorOf(path, load), gone)
    assert.deepEqual(await errorOf('/v1/unload_lora_adapter', { lora_name: 'sql' }), gone)
    failWith(new ServerError('engine_crashed', 'It crashed.'))
    assert.deepEqual(await errorOf(path, load), [500, 'InternalServerError', 'It crashed.'])
  })
})
