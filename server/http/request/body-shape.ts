// What a JSON text would cost to parse, told by one look at its bytes: how deep it is, and how many
// keys, objects and lists it holds. Text that is no JSON is counted somehow and refused by the parser.

import { ServerError } from '../../errors.ts'

const maxDepth = 64
/** Of one object. */
const maxKeys = 10_000
/** Keys, objects and lists of the whole body: ten thousand messages in parts have 70,000. */
const maxNodes = 80_000

const quote = 0x22
const backslash = 0x5c
const colon = 0x3a
const openings = new Set([0x5b, 0x7b])
const closings = new Set([0x5d, 0x7d])

/** Throws ServerError where the body goes over a bound. */
export function checkShape(json: Uint8Array): void {
  const keys = new Uint32Array(maxDepth + 1)
  let depth = 0
  let nodes = 0
  for (let i = 0; i < json.length; i++) {
    const byte = json[i]!
    if (byte === quote) {
      for (i++; i < json.length && json[i] !== quote; i++) if (json[i] === backslash) i++
    } else if (byte === colon) {
      nodes++
      if (++keys[depth]! > maxKeys) refuse(`an object may have ${maxKeys} keys`)
    } else if (openings.has(byte)) {
      nodes++
      if (++depth > maxDepth) refuseDepth()
      keys[depth] = 0
    } else if (closings.has(byte)) {
      depth = Math.max(0, depth - 1)
    }
    if (nodes > maxNodes) refuse(`it may hold ${maxNodes} keys, objects and lists`)
  }
}

function refuseDepth(): never {
  throw new ServerError('invalid_json', `the body must nest at most ${maxDepth} levels deep`)
}

function refuse(rule: string): never {
  throw new ServerError('invalid_request', `the body is too complex: ${rule}; send less`)
}
