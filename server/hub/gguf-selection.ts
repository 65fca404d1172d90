// Which GGUF file of a repository is meant. Repositories hold the same model in many types, by names that
// end in the type (name-Q4_K_M.gguf); large ones lie in parts.

import { ServerError } from '../errors.ts'

export type GgufChoice =
  /** org/name:Q4_K_M */
  | { readonly kind: 'quant'; readonly quant: string }
  /** org/name/file.gguf */
  | { readonly kind: 'file'; readonly name: string }

interface Model {
  /** The name without the part's number and the ending. */
  readonly stem: string
  readonly numParts: number
  readonly files: readonly string[]
}

const namePattern = /^(.+?)(?:-\d{5}-of-(\d{5}))?\.gguf$/i
/** Projectors of images and matrices of importance are no models. */
const notModels = /^mmproj|(^|[-_.])imatrix/i
const mostNamed = 12

export function hasGguf(names: readonly string[]): boolean {
  return modelsIn(names).length > 0
}

/** The files of the one model, its parts in order. Throws ServerError where none or several are meant. */
export function chooseGguf(
  names: readonly string[],
  choice: GgufChoice | null,
  repo: string,
): readonly string[] {
  const models = modelsIn(names)
  const chosen = models.filter((model) => isChosen(model, choice))
  const [model] = chosen
  if (model === undefined || chosen.length > 1) {
    throw new ServerError('unsupported_checkpoint', explain(models, choice, chosen.length, repo))
  }
  if (model.files.length !== model.numParts) {
    throw new ServerError(
      'invalid_checkpoint',
      `--model ${repo}: ${model.stem} has ${model.files.length} of ${model.numParts} parts`,
    )
  }
  return model.files
}

/** The same, or undefined. */
export function findGguf(
  names: readonly string[],
  choice: GgufChoice | null,
): readonly string[] | undefined {
  const [model, ...others] = modelsIn(names).filter((model) => isChosen(model, choice))
  const isWhole = model !== undefined && model.files.length === model.numParts
  return isWhole && others.length === 0 ? model.files : undefined
}

function modelsIn(names: readonly string[]): Model[] {
  const models = new Map<string, { numParts: number; files: string[] }>()
  for (const name of [...names].sort()) {
    const [, stem, parts] = namePattern.exec(name) ?? []
    if (stem === undefined || notModels.test(name)) continue
    const model = models.get(stem) ?? { numParts: Number(parts ?? 1), files: [] }
    models.set(stem, model)
    model.files.push(name)
  }
  return [...models].map(([stem, model]) => ({ stem, ...model }))
}

function isChosen({ stem, files }: Model, choice: GgufChoice | null): boolean {
  switch (choice?.kind) {
    case undefined:
      return true
    case 'file':
      return files.includes(choice.name)
    case 'quant': {
      const end = choice.quant.toLowerCase()
      const whole = stem.toLowerCase()
      return whole.endsWith(end) && /^$|[-._]$/.test(whole.slice(0, whole.length - end.length))
    }
  }
}

function explain(
  models: readonly Model[],
  choice: GgufChoice | null,
  numChosen: number,
  repo: string,
): string {
  const files = models.map((model) => model.files[0]!)
  const more = files.length > mostNamed ? `, and ${files.length - mostNamed} more` : ''
  const list = `${files.slice(0, mostNamed).join(', ')}${more}`
  const asked =
    choice === null ? '' : ` for ${choice.kind === 'quant' ? choice.quant : choice.name}`
  if (models.length === 0) return `--model ${repo} has no GGUF file${asked}`
  const problem = numChosen === 0 ? `no GGUF file${asked}` : `several GGUF files${asked}`
  return `--model ${repo} has ${problem}: give ${repo}:<quant> or ${repo}/<file>; there are ${list}`
}
