// NFC as the reference library does it: its table of combining marks and compositions is that of
// Unicode 9.0. Characters that got such a property later are left where they stand, and nothing
// moves or joins across them.

import { toClass, union } from './code-point-set.ts'
import { findCategory } from './unicode-categories.ts'

// Marks that are reordered, and parts of compositions, in later versions of Unicode only; pairs of
// first and last. Found by comparing both libraries on every code point.
const later = [
  '7fd-7fd 897-89f 8ca-8d3 9fe-9fe c3c-c3c d3b-d3c eba-eba 1715-1715 1abf-1aeb 1df6-1dfa',
  'a82c-a82c 105c9-105c9 105d2-105d2 105da-105da 105e4-105e4 10d24-10d27 10d69-10d6d 10eab-10eac',
  '10efa-10eff 10f46-10f50 10f82-10f85 11070-11070 1133b-1133b 11382-113d0 1145e-1145e',
  '11839-1183a 11930-11943 119e0-119e0 11a34-11a34 11a47-11a47 11a99-11a99 11d42-11d45',
  '11d97-11d97 11f41-11f42 1611e-1612f 16d63-16d6a 16ff0-16ff1 1e08f-1e08f 1e130-1e136',
  '1e2ae-1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3-1e6f5',
]
const ranges = later
  .flatMap((line) => line.split(' '))
  .map((range) => range.split('-').map((hex) => Number.parseInt(hex, 16)) as [number, number])

const stays = toClass(union(ranges, findCategory('Cn')!))
const parts = new RegExp(`${stays}+|${stays.replace('[', '[^')}+`, 'gu')
const holdsLater = new RegExp(stays, 'u')
const mayChange = /[^\0-\u02ff]/

export function normalizeNfc(text: string): string {
  if (!mayChange.test(text)) return text
  if (!holdsLater.test(text)) return text.normalize('NFC')
  return text.replace(parts, (part) => (holdsLater.test(part) ? part : part.normalize('NFC')))
}
