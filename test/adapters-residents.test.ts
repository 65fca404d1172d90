// Adapters in memory, by generated use: what is held is never freed, what is freed is freed once,
// and the bytes of all are those that are counted.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createResidents, type Hold } from '../server/adapters/residents.ts'
import type { AdapterVersion } from '../server/adapters/versions.ts'

let numVersions = 0

/** A newer version of that name. */
function versionOf(id: string, bytes: number): AdapterVersion {
  const order = ++numVersions
  const manifest = {
    defaultScale: 1,
    description: null,
    baseDigest: null,
    baseModel: null,
    content: null,
  }
  const about = {
    id,
    digest: String(order),
    rank: 1,
    targetModules: ['up_proj'],
    numLayers: 1,
    gaps: [],
    notes: [],
    manifest: {
      kind: 'adapter' as const,
      ...manifest,
      warnings: [],
    },
  }
  return { about, components: [], bytes, fingerprint: `state ${order}`, order }
}

function createWorld(maxBytes: number) {
  const freed: AdapterVersion[] = []
  const residents = createResidents(maxBytes, (version) => freed.push(version))
  return { residents, freed }
}

const idsOf = (versions: readonly AdapterVersion[]) => versions.map(({ about }) => about.id)

test('idle adapters leave least recently used first, and only as many as must', () => {
  const { residents, freed } = createWorld(100)
  for (const id of ['a', 'b', 'c']) residents.keep(versionOf(id, 30), true)!.release()
  residents.hold('a', residents.find('a')!.fingerprint)!.release()
  assert.deepEqual(residents.ids(), ['a', 'c', 'b'])
  residents.keep(versionOf('d', 35), true)!.release()
  assert.deepEqual(idsOf(freed), ['b'])
  assert.deepEqual(residents.ids(), ['d', 'a', 'c'])
  assert.equal(residents.usedBytes, 95)
})

test('need of memory never frees what is held; the last release makes it idle', () => {
  const { residents, freed } = createWorld(100)
  const first = residents.keep(versionOf('a', 60), true)!
  const second = residents.hold('a', first.version.fingerprint)!
  residents.keep(versionOf('b', 40), true)!.release()
  assert.equal(residents.keep(versionOf('c', 50), true), null)
  assert.deepEqual(idsOf(freed), [], 'what cannot fit evicts nothing')
  residents.keep(versionOf('d', 40), true)!.release()
  assert.deepEqual(idsOf(freed), ['b'])

  first.release()
  first.release()
  assert.equal(residents.keep(versionOf('c', 50), true), null, 'one request still holds it')
  second.release()
  assert.deepEqual(residents.ids(), ['a', 'd'])
  residents.keep(versionOf('c', 50), true)!.release()
  assert.deepEqual(idsOf(freed), ['b', 'd', 'a'])
  assert.equal(residents.usedBytes, 50)
})

test('those in use come before idle ones, most recently used first', () => {
  const { residents } = createWorld(100)
  const a = residents.keep(versionOf('a', 10), true)!
  residents.keep(versionOf('b', 10), true)
  residents.keep(versionOf('c', 10), true)!.release()
  assert.deepEqual(residents.ids(), ['b', 'a', 'c'])
  residents.hold('a', a.version.fingerprint)
  assert.deepEqual(residents.ids(), ['a', 'b', 'c'])
})

test('a replaced version is freed by its last user; an older one never replaces a newer', () => {
  const { residents, freed } = createWorld(100)
  const older = versionOf('a', 10)
  const old = residents.keep(older, true)!
  const fresh = residents.keep(versionOf('a', 20), true)!
  assert.equal(residents.usedBytes, 30)
  assert.equal(residents.hold('a', older.fingerprint), null)
  assert.equal(residents.keep(older, true)!.version, fresh.version)
  old.release()
  assert.deepEqual(freed, [older])
  assert.equal(residents.usedBytes, 20)
})

test('an idle version that is replaced makes room before others leave', () => {
  const { residents, freed } = createWorld(100)
  for (const id of ['other', 'a']) residents.keep(versionOf(id, 50), true)!.release()
  residents.keep(versionOf('a', 40), true)!.release()
  assert.deepEqual(idsOf(freed), ['a'])
  assert.deepEqual(residents.ids(), ['a', 'other'])
})

test('who may not take memory still gets what is there', () => {
  const { residents } = createWorld(100)
  const version = versionOf('a', 10)
  assert.equal(residents.keep(version, false), null)
  residents.keep(version, true)!.release()
  assert.equal(residents.keep(version, false)!.version, version)
})

test('a bound without end holds everything', () => {
  const { residents, freed } = createWorld(Number.POSITIVE_INFINITY)
  for (let i = 0; i < 100; i++) residents.keep(versionOf(`a${i}`, 1e12), true)!.release()
  assert.equal(residents.ids().length, 100)
  assert.equal(freed.length, 0)
})

for (const seed of [1, 2, 3, 4, 5]) {
  test(`generated use number ${seed} loses no byte and frees nothing that is held`, () => {
    const maxBytes = 100
    const { residents, freed } = createWorld(maxBytes)
    const ids = ['a', 'b', 'c', 'd', 'e', 'f']
    const holds = new Set<Hold>()
    /** Every version that became resident. */
    const kept = new Set<AdapterVersion>()
    const latest = new Map<string, AdapterVersion>()
    let state = seed
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    const pick = <T>(items: readonly T[]): T => items[random(items.length)]!

    function use(hold: Hold | null): void {
      if (hold === null) return
      holds.add(hold)
      kept.add(hold.version)
    }
    let lastReleased: Hold | undefined
    function release(hold: Hold): void {
      hold.release()
      lastReleased = hold
      holds.delete(hold)
    }
    const steps = [
      () => use(residents.hold(pick(ids), `state ${random(numVersions + 1)}`)),
      () => {
        const id = pick(ids)
        use(residents.hold(id, residents.find(id)?.fingerprint ?? ''))
      },
      () => {
        const id = pick(ids)
        const version = versionOf(id, 1 + random(50))
        latest.set(id, version)
        use(residents.keep(version, random(8) > 0))
      },
      () => {
        const version = latest.get(pick(ids))
        // Read once for several requests, of which one comes late.
        if (version) use(residents.keep({ ...version }, random(2) === 0))
      },
      () => residents.retire(pick(ids)),
      () => holds.size > 0 && release(pick([...holds])),
      () => holds.size > 0 && release(pick([...holds])),
      () => lastReleased?.release(),
    ]

    function check(): void {
      const gone = new Set(freed)
      assert.equal(gone.size, freed.length, 'nothing is freed twice')
      const resident = [...kept].filter((version) => !gone.has(version))
      const bytes = resident.reduce((sum, version) => sum + version.bytes, 0)
      assert.equal(residents.usedBytes, bytes)
      assert.ok(bytes <= maxBytes, `${bytes} bytes`)
      for (const { version } of holds) assert.ok(!gone.has(version), 'what is held stays')
      const found = residents.ids().map((id) => residents.find(id)!)
      assert.equal(new Set(found).size, found.length)
      for (const version of found) assert.ok(!gone.has(version), 'what is found is there')
      const heldVersions = new Set([...holds].map(({ version }) => version))
      const isHeld = found.map((version) => heldVersions.has(version))
      assert.deepEqual(isHeld, [...isHeld].sort().reverse(), 'those in use come first')
      // Without a name only what a request still holds is in memory.
      for (const version of resident) {
        assert.ok(found.includes(version) || heldVersions.has(version))
      }
    }

    for (let step = 0; step < 3000; step++) {
      pick(steps)()
      check()
    }
    for (const hold of [...holds]) release(hold)
    for (const id of ids) residents.retire(id)
    check()
    assert.equal(residents.usedBytes, 0)
    assert.equal(freed.length, kept.size)
  })
}
