// A checkpoint is a folder as Hugging Face has it, or one GGUF file (the first of a split one).

import { basename } from 'node:path'

const ending = /\.gguf$/i
const partOfSplit = /-\d{5}-of-\d{5}$/

export function isGgufPath(path: string): boolean {
  return ending.test(path)
}

/** What a model is called where nobody names it: the folder, or the file without its ending. */
export function modelNameOf(path: string): string {
  const name = basename(path)
  return isGgufPath(path) ? name.replace(ending, '').replace(partOfSplit, '') : name
}
