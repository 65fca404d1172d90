// The formats that weights are compared in, and what tables call them.

import {
  blockSizes,
  type QuantizedFormat,
  type WeightFormat,
} from '../../server/contracts/checkpoint.ts'
import { isGgufPath } from '../../server/contracts/model-path.ts'

/** Every width, block and kind of zero. */
export function quantizedFormats(searchScales: boolean): readonly QuantizedFormat[] {
  return ([8, 4] as const).flatMap((bits) =>
    blockSizes.flatMap((block) =>
      [false, true].map((zeroPoints): QuantizedFormat => {
        return { kind: 'quantized', bits, block, zeroPoints, searchScales }
      }),
    ),
  )
}

/** What only the checkpoint at this path can be served in. */
export function ownFormats(path: string): readonly WeightFormat[] {
  return isGgufPath(path) ? [{ kind: 'stored' }] : []
}

export function titleOf(format: WeightFormat): string {
  if (format.kind !== 'quantized') return format.kind
  const { bits, block, zeroPoints, searchScales } = format
  const parts = [`int${bits}`, `block ${block}`]
  if (zeroPoints) parts.push('zero points')
  if (searchScales) parts.push('scale search')
  return parts.join(', ')
}

/** Those whose title is in a list with semicolons between; all when it is empty. */
export function chosen<T extends WeightFormat>(
  formats: readonly T[],
  titles: string,
): readonly T[] {
  const wanted = titles.split(';').map((title) => title.trim())
  return titles === '' ? formats : formats.filter((format) => wanted.includes(titleOf(format)))
}
