// Which file of server/ imports what, read by a parser: static imports, re-exports and import().

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { parseSync } from 'oxc-parser'
import { root } from './root.ts'

export interface Import {
  /** A file of ours as "room/file" without ".ts", or the name of a package. */
  readonly target: string
  readonly isOurs: boolean
  /** Gone at run time. */
  readonly isType: boolean
}

export interface SourceFile {
  /** Path under server/, without ".ts". */
  readonly path: string
  readonly imports: readonly Import[]
}

/** The imports of one file; `path` is relative to server/, without ".ts". */
export function importsOf(path: string, code: string): Import[] {
  const { errors, module } = parseSync(`${path}.ts`, code)
  if (errors.length > 0) throw new SyntaxError(`${path}: ${errors[0]!.message}`)
  const from = (request: string, isType: boolean): Import => {
    if (!request.startsWith('.')) return { target: request, isOurs: false, isType }
    const target = posix.join(posix.dirname(path), request).replace(/\.ts$/, '')
    return { target, isOurs: true, isType }
  }
  return [
    ...module.staticImports.map(({ moduleRequest, entries }) =>
      from(moduleRequest.value, entries.length > 0 && entries.every(({ isType }) => isType)),
    ),
    ...module.staticExports.flatMap(({ entries }) =>
      entries.flatMap(({ moduleRequest, isType }) =>
        moduleRequest === null ? [] : [from(moduleRequest.value, isType)],
      ),
    ),
    ...module.dynamicImports.map(({ moduleRequest: { start, end } }) => {
      const request = /^['"](.*)['"]$/.exec(code.slice(start, end))
      if (request === null) throw new SyntaxError(`${path}: import() of something computed`)
      return from(request[1]!, false)
    }),
  ]
}

/** Every TypeScript file of server/. */
export function readServer(): SourceFile[] {
  const folder = join(root, 'server')
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.replaceAll('\\', '/').slice(0, -'.ts'.length))
    .sort()
    .map((path) => ({
      path,
      imports: importsOf(path, readFileSync(join(folder, `${path}.ts`), 'utf8')),
    }))
}

/** The room of a file: its folder, or the file itself where it lies in server/ directly. */
export function roomOf(path: string): string {
  const folder = dirname(path)
  return folder === '.' ? path : folder
}
