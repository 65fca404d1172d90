// A grammar as nodes that read bytes. A rule is called and returns, so that what it may be nested in is
// not written out; a counted repetition keeps its count beside the place it returns to.

import { anyPoint, type ByteRanges, type CodePoints } from './code-points.ts'
import { type Expression, type Grammar, GrammarError, type Spelling } from './expression.ts'
import { spell } from './spelling.ts'

interface ByteEdge {
  readonly first: number
  readonly last: number
  target: number
}

type Node =
  /** Reads one byte. */
  | { readonly kind: 'byte'; edges: ByteEdge[] }
  | { readonly kind: 'split'; targets: number[] }
  | { readonly kind: 'call'; readonly target: number; readonly next: number }
  | {
      readonly kind: 'loop'
      body: number
      readonly min: number
      readonly max: number
      readonly next: number
    }
  /** Back to where the rule was called; the end of the text where it was not. */
  | { readonly kind: 'end' }

export interface Machine {
  readonly nodes: readonly Node[]
  readonly start: number
  /** Bytes of one class lead to the same places everywhere. */
  readonly classOf: Uint8Array
  readonly numClasses: number
}

const mostNodes = 400_000
/** A repetition of fewer nodes is written out: that is quicker than counting. */
const writtenOut = 64

export interface MachineOptions {
  /** Bytes that the vocabulary has a token of their own for: others are never needed. */
  readonly isWritable: (byte: number) => boolean
}

/** Throws GrammarError where it is too large, recurses without reading, or matches nothing. */
export function buildMachine(grammar: Grammar, { isWritable }: MachineOptions): Machine {
  const nodes: Node[] = [{ kind: 'end' }]
  const starts = new Map<string, number>()
  const tails = new Map<string, number>()
  const pending: string[] = []

  function add(node: Node): number {
    if (nodes.length >= mostNodes) {
      throw new GrammarError(
        `it needs more than ${mostNodes} states: make its lists, alternatives or numbers in {…} smaller`,
      )
    }
    return nodes.push(node) - 1
  }

  /** Where a rule starts; what it is made of is built later, as it may call itself. */
  function startOf(name: string): number {
    const known = starts.get(name)
    if (known !== undefined) return known
    const start = add({ kind: 'split', targets: [] })
    starts.set(name, start)
    pending.push(name)
    return start
  }

  /** The node that reads it and goes on to `next`. */
  function build(part: Expression, next: number): number {
    switch (part.kind) {
      case 'char':
        return add({ kind: 'byte', edges: edgesOf(part.points, part.spelling, next) })
      case 'sequence':
        return part.parts.reduceRight((after, one) => build(one, after), next)
      case 'choice':
        return add({ kind: 'split', targets: part.options.map((option) => build(option, next)) })
      case 'repeat':
        return buildRepeat(part, next)
      case 'rule':
        return add({ kind: 'call', target: startOf(part.name), next })
      case 'automaton':
        return buildAutomaton(part, next)
    }
  }

  function buildRepeat(
    { body, min, max }: Extract<Expression, { kind: 'repeat' }>,
    next: number,
  ): number {
    const isOpen = max === Number.POSITIVE_INFINITY
    const times = isOpen ? min : max
    if (times <= 1 || times * sizeOf(body, writtenOut) <= writtenOut) {
      let after = next
      if (isOpen) {
        const loop = { kind: 'split' as const, targets: [next] }
        after = add(loop)
        loop.targets.push(build(body, after))
      }
      for (let i = isOpen ? min : max; i > 0; i--) {
        const start = build(body, after)
        after = i <= min ? start : add({ kind: 'split', targets: [start, next] })
      }
      return after
    }
    return add({ kind: 'loop', body: build(body, 0), min, max, next })
  }

  function buildAutomaton(
    { automaton, spelling }: Extract<Expression, { kind: 'automaton' }>,
    next: number,
  ): number {
    const first = automaton.states.map(() => add({ kind: 'split', targets: [] }))
    for (const [i, { edges, isFinal }] of automaton.states.entries()) {
      const bytes = edges.flatMap(({ points, target }) => edgesOf(points, spelling, first[target]!))
      const targets = [add({ kind: 'byte', edges: bytes }), ...(isFinal ? [next] : [])]
      nodes[first[i]!] = { kind: 'split', targets }
    }
    return first[0]!
  }

  function edgesOf(points: CodePoints, spelling: Spelling, next: number): ByteEdge[] {
    return spell(points, spelling).flatMap(([ranges = [], ...rest]) => {
      const target = tailOf(rest, next)
      return ranges.map(([first, last]) => ({ first, last, target }))
    })
  }

  /** What characters have in common behind their first byte is there once. */
  function tailOf(ranges: ByteRanges, next: number): number {
    if (ranges.length === 0) return next
    const name = `${next}:${ranges.map((one) => one.join('-')).join(';')}`
    const known = tails.get(name)
    if (known !== undefined) return known
    const target = tailOf(ranges.slice(1), next)
    const edges = ranges[0]!.map(([first, last]) => ({ first, last, target }))
    const tail = add({ kind: 'byte', edges })
    tails.set(name, tail)
    return tail
  }

  const start = build(grammar.root, 0)
  for (const name of pending) {
    const body = grammar.rules.get(name)
    if (body === undefined) throw new GrammarError(`the rule ${JSON.stringify(name)} is not there`)
    nodes[starts.get(name)!] = { kind: 'split', targets: [build(body, 0)] }
  }
  refuseLeftRecursion(nodes, starts)
  dropDeadEnds(nodes, start, isWritable)
  return { nodes, start, ...classesOf(nodes) }
}

/** Roughly how many nodes it needs; counts no further than `most`. */
function sizeOf(part: Expression, most: number): number {
  switch (part.kind) {
    case 'char':
      return part.points === anyPoint ? 8 : 1
    case 'sequence':
      return sumOf(part.parts, most)
    case 'choice':
      return 1 + sumOf(part.options, most)
    case 'repeat': {
      const times = part.max === Number.POSITIVE_INFINITY ? part.min + 1 : part.max
      return Math.min(most + 1, 1 + Math.max(1, times) * sizeOf(part.body, most))
    }
    case 'rule':
      return 1
    case 'automaton':
      return 2 * part.automaton.states.length
  }
}

function sumOf(parts: readonly Expression[], most: number): number {
  let sum = 0
  for (const part of parts) {
    sum += sizeOf(part, most)
    if (sum > most) break
  }
  return sum
}

/** Which nodes can reach their rule's end without reading. */
function findEmpty(nodes: readonly Node[]): Uint8Array {
  return fixpoint(nodes, (node, isEmpty) => {
    switch (node.kind) {
      case 'end':
        return true
      case 'byte':
        return false
      case 'split':
        return node.targets.some((target) => isEmpty[target])
      case 'call':
        return isEmpty[node.target] === 1 && isEmpty[node.next] === 1
      case 'loop':
        return (node.min === 0 || isEmpty[node.body] === 1) && isEmpty[node.next] === 1
    }
  })
}

/** The least set of nodes that `holds` closes. A node is looked at again when what it names comes in. */
function fixpoint(
  nodes: readonly Node[],
  holds: (node: Node, known: Uint8Array) => boolean,
): Uint8Array {
  const known = new Uint8Array(nodes.length)
  const { starts, names } = namedBy(nodes)
  const open: number[] = []

  function look(i: number): void {
    if (known[i] === 1 || !holds(nodes[i]!, known)) return
    known[i] = 1
    open.push(i)
  }

  for (let i = nodes.length - 1; i >= 0; i--) look(i)
  for (let i = open.pop(); i !== undefined; i = open.pop()) {
    for (let at = starts[i]!; at < starts[i + 1]!; at++) look(names[at]!)
  }
  return known
}

/** Which nodes name node i: names[starts[i]] to names[starts[i + 1] − 1]. */
function namedBy(nodes: readonly Node[]): { starts: Int32Array; names: Int32Array } {
  const starts = new Int32Array(nodes.length + 2)
  for (const node of nodes) for (const target of targetsOf(node)) starts[target + 2]!++
  for (let i = 2; i < starts.length; i++) starts[i]! += starts[i - 1]!
  const names = new Int32Array(starts.at(-1)!)
  for (const [i, node] of nodes.entries()) {
    for (const target of targetsOf(node)) names[starts[target + 1]!++] = i
  }
  return { starts, names }
}

function targetsOf(node: Node): number[] {
  switch (node.kind) {
    case 'end':
      return []
    case 'byte':
      return node.edges.map(({ target }) => target)
    case 'split':
      return node.targets
    case 'call':
      return [node.target, node.next]
    case 'loop':
      return [node.body, node.next]
  }
}

/** A rule that comes to itself before it has read anything would be called without end. */
function refuseLeftRecursion(nodes: readonly Node[], starts: ReadonlyMap<string, number>): void {
  const isEmpty = findEmpty(nodes)
  const names = new Map([...starts].map(([name, start]) => [start, name]))
  const state = new Uint8Array(nodes.length)

  function nextOf(node: Node): number[] {
    switch (node.kind) {
      case 'end':
      case 'byte':
        return []
      case 'split':
        return node.targets
      case 'call':
        return isEmpty[node.target] ? [node.target, node.next] : [node.target]
      case 'loop':
        return node.min === 0 || isEmpty[node.body] ? [node.body, node.next] : [node.body]
    }
  }

  for (const root of starts.values()) {
    if (state[root] !== 0) continue
    const path = [{ at: root, next: nextOf(nodes[root]!), i: 0 }]
    state[root] = 1
    while (path.length > 0) {
      const top = path.at(-1)!
      const to = top.next[top.i++]
      if (to === undefined) {
        state[top.at] = 2
        path.pop()
      } else if (state[to] === 0) {
        state[to] = 1
        path.push({ at: to, next: nextOf(nodes[to]!), i: 0 })
      } else if (state[to] === 1) {
        // A repetition of what may be empty comes to itself, too; that has an end.
        const circle = path.slice(path.findIndex(({ at }) => at === to)).map(({ at }) => at)
        const called = circle.find((at) => names.has(at))
        if (called === undefined) continue
        throw new GrammarError(
          `${JSON.stringify(names.get(called))} comes to itself before any text: let it begin with ` +
            'something else, for instance by a repetition in place of the recursion',
        )
      }
    }
  }
}

/** Leaves only what an end can be reached from, so that no text runs into a wall. */
function dropDeadEnds(
  nodes: readonly Node[],
  start: number,
  isWritable: (byte: number) => boolean,
): void {
  const writable = Uint8Array.from({ length: 256 }, (_, byte) => (isWritable(byte) ? 1 : 0))
  for (const node of nodes) {
    if (node.kind === 'byte') node.edges = node.edges.flatMap((edge) => writableOf(edge, writable))
  }
  const ends = fixpoint(nodes, (node, known) => {
    switch (node.kind) {
      case 'end':
        return true
      case 'byte':
        return node.edges.some(({ target }) => known[target])
      case 'split':
        return node.targets.some((target) => known[target])
      case 'call':
        return known[node.target] === 1 && known[node.next] === 1
      case 'loop':
        return (node.min === 0 || known[node.body] === 1) && known[node.next] === 1
    }
  })
  if (ends[start] === 0) {
    throw new GrammarError(
      'no text can satisfy it (or none that this model has tokens for): look for contradictions, ' +
        'and for recursion without an end',
    )
  }
  for (const node of nodes) {
    if (node.kind === 'byte') node.edges = node.edges.filter(({ target }) => ends[target])
    else if (node.kind === 'split') node.targets = node.targets.filter((target) => ends[target])
    else if (node.kind === 'loop' && ends[node.body] === 0) node.body = -1
  }
}

function writableOf(edge: ByteEdge, writable: Uint8Array): ByteEdge[] {
  const parts: ByteEdge[] = []
  let first = -1
  for (let byte = edge.first; byte <= edge.last + 1; byte++) {
    const isIn = byte <= edge.last && writable[byte] === 1
    if (isIn && first < 0) first = byte
    if (isIn || first < 0) continue
    parts.push({ first, last: byte - 1, target: edge.target })
    first = -1
  }
  return parts
}

function classesOf(nodes: readonly Node[]): { classOf: Uint8Array; numClasses: number } {
  const cuts = new Uint8Array(257)
  for (const node of nodes) {
    if (node.kind !== 'byte') continue
    for (const { first, last } of node.edges) {
      cuts[first] = 1
      cuts[last + 1] = 1
    }
  }
  const classOf = new Uint8Array(256)
  let last = 0
  for (let byte = 1; byte < 256; byte++) {
    if (cuts[byte] === 1) last++
    classOf[byte] = last
  }
  return { classOf, numClasses: last + 1 }
}
