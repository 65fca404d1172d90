// Which room of server/ may import which. A room is a folder, or a file that lies in server/ itself.
// The table in support/rooms.ts is exact: an import that it lacks fails, and so does an entry that
// nothing needs. ARCHITECTURE.md shows the same table.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type Import, importsOf, readServer, roomOf, type SourceFile } from './support/imports.ts'
import { type Room, renderRooms, rooms } from './support/rooms.ts'
import { root } from './support/root.ts'

const files = readServer()
const roomNames = rooms.map(({ name }) => name)

function isAllowed(room: Room, { target, isOurs }: Import): boolean {
  if (!isOurs) return room.packages.includes(target)
  const other = roomOf(target)
  return other === room.name || room.ours.includes(other)
}

function breachesOf(sources: readonly SourceFile[]): string[] {
  return sources.flatMap(({ path, imports }) => {
    const room = rooms.find(({ name }) => name === roomOf(path))
    if (room === undefined) return [`${path} is in no room of the table`]
    return imports
      .filter((one) => !isAllowed(room, one))
      .map(({ target }) => `${path} imports ${target}`)
  })
}

describe('architecture', () => {
  it('rooms import only what the table allows', () => {
    assert.deepEqual(breachesOf(files), [])
  })

  it('the table holds no room, import or package that is not there', () => {
    const dead = rooms.flatMap(({ name, ours, packages }) => {
      const own = files.filter(({ path }) => roomOf(path) === name)
      const targets = own.flatMap(({ imports }) =>
        imports.map(({ target, isOurs }) => (isOurs ? roomOf(target) : target)),
      )
      if (own.length === 0) return [name]
      return [...ours, ...packages]
        .filter((entry) => !targets.includes(entry))
        .map((entry) => `${name}: ${entry}`)
    })
    assert.deepEqual(dead, [])
  })

  it('a room imports only rooms that stand below it, so no room leads back to itself', () => {
    const upward = rooms.flatMap(({ name, ours }, at) =>
      ours.filter((other) => roomNames.indexOf(other) <= at).map((other) => `${name} → ${other}`),
    )
    assert.deepEqual(upward, [])
  })

  // Each room is given an import of each other room, of a package and of a circle's first half.
  for (const room of rooms) {
    it(`an import that ${room.name} may not have is found`, () => {
      const path = files.find((file) => roomOf(file.path) === room.name)!.path
      const up = '../'.repeat(path.split('/').length - 1) || './'
      const forbidden = roomNames.filter(
        (other) => other !== room.name && !room.ours.includes(other),
      )
      for (const other of forbidden) {
        const target = files.find((file) => roomOf(file.path) === other)!.path
        const imports = importsOf(path, `import { x } from '${up}${target}.ts'`)
        assert.deepEqual(breachesOf([{ path, imports }]), [`${path} imports ${target}`])
      }
      for (const request of ['left-pad', ...(room.packages.includes('koffi') ? [] : ['koffi'])]) {
        const imports = importsOf(path, `const x = await import('${request}')`)
        assert.deepEqual(breachesOf([{ path, imports }]), [`${path} imports ${request}`])
      }
    })
  }

  it('nothing imports in a circle; types may within a room, they are gone at run time', () => {
    const graph = new Map(
      files.map(({ path, imports }) => [
        path,
        imports.filter(({ isOurs, isType }) => isOurs && !isType).map(({ target }) => target),
      ]),
    )
    const finished = new Set<string>()
    const visit = (path: string, trail: readonly string[]): void => {
      assert.ok(!trail.includes(path), `circle: ${[...trail, path].join(' → ')}`)
      if (finished.has(path)) return
      for (const target of graph.get(path) ?? []) visit(target, [...trail, path])
      finished.add(path)
    }
    for (const { path } of files) visit(path, [])
  })

  it('imports that lead nowhere are found', () => {
    const paths = new Set(files.map(({ path }) => path))
    const lost = files.flatMap(({ path, imports }) =>
      imports
        .filter(({ target, isOurs }) => isOurs && !paths.has(target))
        .map(({ target }) => `${path} imports ${target}`),
    )
    assert.deepEqual(lost, [])
  })

  it('ARCHITECTURE.md shows the table', () => {
    const page = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8')
    const shown = /<!-- imports:begin -->\n([\s\S]*)<!-- imports:end -->/.exec(page)?.[1]
    assert.equal(shown, renderRooms())
  })
})
