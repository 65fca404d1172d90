// What fits on a screen: functions, files and folders stay small. Functions are found by a parser.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, it } from 'node:test'
import { parseSync, Visitor } from 'oxc-parser'
import { root } from './support/root.ts'

const mostFunctionLines = 150
const mostFileLines = 400
const mostFilesInFolder = 20
const skipped = new Set(['node_modules', 'results'])

const isSource = (name: string) => /\.(ts|mjs|js|c|h)$/.test(name)
const pathOf = (path: string) => relative(root, path).replaceAll('\\', '/')

/** Every folder below, with the names of its source files. */
function* foldersOf(folder: string): Generator<{ folder: string; sources: string[] }> {
  const entries = readdirSync(folder, { withFileTypes: true })
  yield {
    folder,
    sources: entries.filter((e) => e.isFile() && isSource(e.name)).map(({ name }) => name),
  }
  for (const entry of entries) {
    if (entry.isDirectory() && !skipped.has(entry.name)) yield* foldersOf(join(folder, entry.name))
  }
}

const folders = ['server', 'bench', 'scripts', 'loadtest'].flatMap((name) => [
  ...foldersOf(join(root, name)),
])
const files = folders.flatMap(({ folder, sources }) => sources.map((name) => join(folder, name)))

const linesOf = (code: string, start: number, end: number) =>
  code.slice(start, end).split('\n').length

interface Span {
  readonly start: number
  readonly end: number
}

/** Functions of a file that are longer than `most` lines, as "path:line (lines)". */
function longFunctions(path: string, code: string, most: number): string[] {
  const { program, errors } = parseSync(path, code)
  assert.deepEqual(errors, [], path)
  const long: string[] = []
  const check = ({ start, end }: Span) => {
    const lines = linesOf(code, start, end)
    if (lines > most) long.push(`${pathOf(path)}:${linesOf(code, 0, start)} (${lines} lines)`)
  }
  const visitor = new Visitor({
    FunctionDeclaration: check,
    FunctionExpression: check,
    ArrowFunctionExpression: check,
  })
  visitor.visit(program)
  return long
}

describe('size', () => {
  it(`no function has more than ${mostFunctionLines} lines`, () => {
    const long = files
      .filter((path) => /\.(ts|mjs|js)$/.test(path))
      .flatMap((path) => longFunctions(path, readFileSync(path, 'utf8'), mostFunctionLines))
    assert.deepEqual(long, [])
  })

  it('a function that is too long is found: declaration, expression, method and arrow', () => {
    const body = '{\n\n\n}'
    const code = `function a() ${body}\nconst b = () => ${body}\nconst c = { d() ${body} }`
    assert.deepEqual(longFunctions(join(root, 'x.ts'), code, 3), [
      'x.ts:1 (4 lines)',
      'x.ts:5 (4 lines)',
      'x.ts:9 (4 lines)',
    ])
    assert.deepEqual(longFunctions(join(root, 'x.ts'), code, 4), [])
  })

  it(`no file has more than ${mostFileLines} lines`, () => {
    const long = files.filter(
      (path) => readFileSync(path, 'utf8').trimEnd().split('\n').length > mostFileLines,
    )
    assert.deepEqual(long.map(pathOf), [])
  })

  it(`no folder holds more than ${mostFilesInFolder} source files, C apart`, () => {
    const crowded = folders
      .map(({ folder, sources }) => ({
        folder,
        count: sources.filter((name) => !/\.[ch]$/.test(name)).length,
      }))
      .filter(({ count }) => count > mostFilesInFolder)
      .map(({ folder, count }) => `${pathOf(folder)} (${count})`)
    assert.deepEqual(crowded, [])
  })

  it('looks at real files', () => {
    assert.ok(files.length > 150 && files.every((path) => statSync(path).size > 0))
  })
})
