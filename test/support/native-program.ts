// Programs in C that compare our own kernels with each other, compiled by the builder's rules but quickly.

import { execFileSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './root.ts'
import { createTempFolder } from './temp-folder.ts'

const temp = createTempFolder()
const native = join(root, 'server', 'native')

interface Rules {
  readonly flags: readonly string[]
  /** The instructions that each source may use. */
  readonly sources: Readonly<Record<string, readonly string[]>>
}

const { rules } = (await import(pathToFileURL(join(native, 'build.mjs')).href)) as { rules: Rules }

export interface NativeProgram {
  /** A file of test/native. */
  readonly main: string
  /** Files of server/native. */
  readonly files: readonly string[]
  /** In place of the instructions that a file may use, the program's own too. */
  readonly instead?: Readonly<Record<string, readonly string[]>>
}

/** What it prints. Throws where it does not compile, and with `status` where it ends with one. */
export function runNative({ main, files, instead = {} }: NativeProgram): string {
  const folder = mkdtempSync(join(temp, 'native-'))
  const compiler = process.env.CC ?? 'gcc'
  const usual = [...rules.flags, '-O1']
  const avx2 = rules.sources['tiles/avx2.c'] ?? []
  const objects = files.map((file, i) => {
    const object = join(folder, `${i}.o`)
    const instructions = instead[file] ?? rules.sources[file] ?? []
    execFileSync(compiler, [...usual, ...instructions, '-c', join(native, file), '-o', object])
    return object
  })
  const program = join(folder, 'program')
  const source = join(root, 'test', 'native', main)
  const own = instead[main] ?? avx2
  execFileSync(compiler, [...usual, ...own, source, ...objects, '-lm', '-o', program])
  return execFileSync(program, { encoding: 'utf8' }).trim()
}
