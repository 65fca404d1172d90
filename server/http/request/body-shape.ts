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
/** What each byte means outside a string. */
const kinds = new Uint8Array(256)
const [string, key, opening, closing] = [1, 2, 3, 4]
kinds[quote] = string
kinds[0x3a] = key
for (const byte of [0x5b, 0x7b]) kinds[byte] = opening
for (const byte of [0x5d, 0x7d]) kinds[byte] = closing

/** Bytes between two rests. */
const stretch = 1 << 16

/** Throws ServerError where the body goes over a bound. `rest` lets others have the event loop. */
export async function checkShape(
  json: Uint8Array,
  rest: () => Promise<void> | undefined,
): Promise<void> {
  const shape = createShape(json)
  for (let end = stretch; !shape.readTo(end); end += stretch) await rest()
}

function createShape(json: Uint8Array) {
  const keys = new Uint32Array(maxDepth + 1)
  let at = 0
  let depth = 0
  let nodes = 0

  /** Behind the string that is opened at `at`. */
  function skipString(): number {
    let i = at + 1
    for (; i < json.length && json[i] !== quote; i++) if (json[i] === backslash) i++
    return i + 1
  }

  function count(kind: number): void {
    if (kind === closing) depth = Math.max(0, depth - 1)
    else if (kind === key) {
      nodes++
      if (++keys[depth]! > maxKeys) refuse(`an object may have ${maxKeys} keys`)
    } else {
      nodes++
      if (++depth > maxDepth) refuseDepth()
      keys[depth] = 0
    }
    if (nodes > maxNodes) refuse(`it may hold ${maxNodes} keys, objects and lists`)
  }

  return {
    /** Reads to there, or to the end of a string that goes on; true when nothing is left. */
    readTo(end: number): boolean {
      const limit = Math.min(end, json.length)
      while (at < limit) {
        const kind = kinds[json[at]!]!
        if (kind === string) at = skipString()
        else {
          if (kind !== 0) count(kind)
          at++
        }
      }
      return at >= json.length
    },
  }
}

function refuseDepth(): never {
  throw new ServerError('invalid_json', `the body must nest at most ${maxDepth} levels deep`)
}

function refuse(rule: string): never {
  throw new ServerError('invalid_request', `the body is too complex: ${rule}; send less`)
}
