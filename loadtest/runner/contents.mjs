// What adapters are made of, for uploads: the files of those that a server has from its folder.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const names = ['adapter_config.json', 'adapter_model.safetensors', 'manifest.json']

/**
 * [{id, digest, files: {name: bytes}, texts}]: the listed adapters whose files lie in the folder, with the
 * references of their content. Adapters that say the same to every prompt count once.
 */
export function readContents(folder, listed, { answers }) {
  const contents = new Map()
  for (const { id, digest } of listed) {
    const texts = answers[id]
    const key = texts?.join('\n')
    const tensors = join(folder, id, 'adapter_model.safetensors')
    if (texts === undefined || contents.has(key) || !existsSync(tensors)) continue
    const files = Object.fromEntries(
      names
        .filter((name) => existsSync(join(folder, id, name)))
        .map((name) => [name, readFileSync(join(folder, id, name))]),
    )
    contents.set(key, { id, digest, files, texts })
  }
  return [...contents.values()]
}

/** A multipart body: its fields first, then its files. */
export function uploadForm({ files }, fields) {
  const form = new FormData()
  for (const [name, text] of Object.entries(fields)) form.append(name, text)
  for (const [name, bytes] of Object.entries(files)) form.append('file', new Blob([bytes]), name)
  return form
}
