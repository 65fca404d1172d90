// A checkpoint is a folder as Hugging Face has it, or one GGUF file (the first of a split one).

const ending = /\.gguf$/i
const partOfSplit = /-\d{5}-of-\d{5}$/

export function isGgufPath(path: string): boolean {
  return ending.test(path)
}

/** What a model is called where nobody names it: its folder, or its file without the ending. */
export function modelNameOf(name: string): string {
  return isGgufPath(name) ? name.replace(ending, '').replace(partOfSplit, '') : name
}
