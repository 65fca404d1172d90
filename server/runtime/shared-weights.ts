// Weights that several graphs read: their files are mapped once, so that each is in memory once.

import { join } from 'node:path'
import type { WeightPlacement } from '../graph/encoding.ts'
import { mapFile } from './native-memory.ts'
import { create, release as releaseNative } from './onnxruntime.ts'
import { makeTensor, type SharedWeights, type Tensor } from './session.ts'

/** Files of a folder. Where `canMapFiles`. Throws for a missing file. */
export function shareWeights(
  folder: string,
  placements: readonly WeightPlacement[],
): SharedWeights {
  const names = [...new Set(placements.map(({ file }) => file))]
  const files = new Map(names.map((name) => [name, mapFile(join(folder, name))]))
  const tensors = new Map<string, Tensor>()
  for (const { tensor, file, offset } of placements) {
    const { name, type, dims } = tensor
    tensors.set(
      name,
      makeTensor(type, dims, files.get(file)!.address + offset, () => {}),
    )
  }
  const container = create('CreatePrepackedWeightsContainer')
  return {
    tensors,
    container,
    settle() {
      for (const file of files.values()) file.forget()
    },
    release() {
      for (const tensor of tensors.values()) tensor.release()
      releaseNative('ReleasePrepackedWeightsContainer', container)
      for (const file of files.values()) file.free()
    },
  }
}
