// Why an answer did not end within max_tokens: what most of it is made of, and how short it could have been.

import { parseSchema } from '../../server/constraints/schema.ts'
import { buildMachine, type Machine } from '../../server/grammar/machine.ts'

type Cause = 'in a string' | 'of digits' | 'of nested values' | 'of many values'

/** Levels of an answer that goes on inwards. */
const deep = 8

/** `text`: the beginning of a JSON text. */
export function causeOfCut(text: string): Cause {
  const strings = text.match(/"(?:[^"\\]|\\.)*(?:"|\\?$)/gs) ?? []
  const longest = Math.max(0, ...strings.map(({ length }) => length))
  if (longest > text.length / 2) return 'in a string'
  const rest = text.replace(/"(?:[^"\\]|\\.)*(?:"|\\?$)/gs, '')
  const digits = rest.match(/\d+/g) ?? []
  if (Math.max(0, ...digits.map(({ length }) => length)) > text.length / 2) return 'of digits'
  let depth = 0
  for (const char of rest) {
    if (char === '{' || char === '[') depth++
    else if (char === '}' || char === ']') depth--
  }
  return depth >= deep ? 'of nested values' : 'of many values'
}

/** Bytes of the shortest answer that keeps to the schema. A token has one at least. */
export function shortestBytes(schema: string): number {
  const { nodes, start } = buildMachine(parseSchema(schema), { isWritable: () => true })
  const sizes = new Float64Array(nodes.length).fill(Number.POSITIVE_INFINITY)
  for (let hasChanged = true; hasChanged; ) {
    hasChanged = false
    for (const [i, node] of nodes.entries()) {
      const size = sizeOf(node, sizes)
      if (size >= sizes[i]!) continue
      sizes[i] = size
      hasChanged = true
    }
  }
  return sizes[start]!
}

/** From a node to its rule's end, as far as it is known. */
function sizeOf(node: Machine['nodes'][number], sizes: Float64Array): number {
  switch (node.kind) {
    case 'end':
      return 0
    case 'byte':
      return 1 + Math.min(...node.edges.map(({ target }) => sizes[target]!))
    case 'split':
      return Math.min(...node.targets.map((target) => sizes[target]!))
    case 'call':
      return sizes[node.target]! + sizes[node.next]!
    case 'loop':
      return (node.min === 0 ? 0 : node.min * sizes[node.body]!) + sizes[node.next]!
  }
}
