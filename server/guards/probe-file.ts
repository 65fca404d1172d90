// probe.safetensors of a guard's folder: one direction of the hidden state.

import { type AdapterFolder, fileInside } from '../adapters/adapter-folder.ts'
import { openSafetensors } from '../checkpoint/safetensors.ts'
import { quoteName } from '../contracts/printable.ts'
import { ServerError } from '../errors.ts'

const probeFile = 'probe.safetensors'

/** w [hidden], finite; the file has [1, hidden]. Throws ServerError. */
export function readDirection(
  folder: AdapterFolder,
  tensor: string,
  hiddenSize: number,
): Float32Array {
  const path = fileInside(folder, probeFile) ?? invalid('it is missing')
  const file = openSafetensors(path, { code: 'invalid_adapter', label: probeFile })
  try {
    const info = file.tensors.get(tensor) ?? invalid(`it holds no ${quoteName(tensor)}`)
    const [rows, columns] = info.shape
    if (info.shape.length !== 2 || rows !== 1 || columns !== hiddenSize) {
      invalid(`${quoteName(tensor)} is [${info.shape}]; this model needs [1,${hiddenSize}]`)
    }
    const direction = file.readFloat32(tensor)
    const isUsable = direction.every(Number.isFinite) && direction.some((value) => value !== 0)
    return isUsable
      ? direction
      : invalid(`${quoteName(tensor)} holds NaN, infinities or only zeros`)
  } finally {
    file.close()
  }
}

function invalid(message: string): never {
  throw new ServerError('invalid_adapter', `${probeFile}: ${message}.`)
}
