// Fakes and worlds of one test file, all ended after each test.

import { join } from 'node:path'
import { afterEach } from 'node:test'
import { loadTokenizer } from '../../server/tokenizer/tokenizer.ts'
import { type FakeVllm, type FakeVllmOptions, startFakeVllm } from './fake-vllm.ts'
import { createRequest } from './scripted-model.ts'
import {
  openWorld,
  type World,
  type WorldOptions,
  writeDescription,
  writeUpAdapter,
} from './upstream-world.ts'

export const withAdapter = (id: string, name: string, fields = {}) =>
  createRequest({ id, adapters: [{ id: name, scale: 1 }], maxTokens: 3, ...fields })

/** Each world has a folder of its own below `root`, with the adapters a1 to a6. */
export function createWorlds(root: string) {
  const tokenizer = loadTokenizer(writeDescription(join(root, 'tokenizer')))
  let numWorlds = 0
  const fakes: FakeVllm[] = []
  const worlds: World[] = []

  const newDir = () => join(root, `world-${numWorlds++}`)

  afterEach(async () => {
    for (const world of worlds.splice(0)) world.engine.close()
    for (const fake of fakes.splice(0)) await fake.close()
  })

  return {
    newDir,

    async startFake(options: FakeVllmOptions = {}): Promise<FakeVllm> {
      const fake = await startFakeVllm({ encode: (text) => tokenizer.encode(text), ...options })
      fakes.push(fake)
      return fake
    },

    async start(
      upstreams: readonly Pick<FakeVllm, 'url'>[],
      { dir = newDir(), ...options }: Partial<WorldOptions> = {},
    ): Promise<World & { readonly dir: string }> {
      for (let seed = 1; seed <= 6; seed++) writeUpAdapter(join(dir, 'adapters'), `a${seed}`, seed)
      const world = await openWorld({ dir, upstreams, ...options })
      worlds.push(world)
      return Object.assign(world, { dir })
    },
  }
}
