// Deterministic automata over code points: for what an expression cannot say, that a text matches two
// expressions, or one and not another.

import {
  anyPoint,
  intersect as bothPoints,
  type CodePoints,
  hasPoint,
  complement as otherPoints,
  pointsOf,
  unite,
} from './code-points.ts'
import { type Expression, GrammarError } from './expression.ts'

interface Edge {
  readonly points: CodePoints
  readonly target: number
}

interface State {
  /** Of disjoint sets; what is in none leads nowhere. */
  readonly edges: readonly Edge[]
  readonly isFinal: boolean
}

/** It starts in state 0. */
export interface Automaton {
  readonly states: readonly State[]
}

const mostStates = 20_000
const mostParts = 100_000
/** Parts that are looked at for all states together: some hundred milliseconds. */
const mostWork = 3_000_000

export function matches({ states }: Automaton, text: string): boolean {
  let state: State | undefined = states[0]
  for (const char of text) {
    const point = char.codePointAt(0)!
    const edge: Edge | undefined = state?.edges.find(({ points }) => hasPoint(points, point))
    state = edge === undefined ? undefined : states[edge.target]
  }
  return state?.isFinal ?? false
}

/** Texts that both match. */
export function intersect(a: Automaton, b: Automaton): Automaton {
  const keyOf = ([i, j]: readonly [number, number]) => i * b.states.length + j
  return explore<readonly [number, number]>([0, 0], keyOf, ([i, j]) => {
    const one = a.states[i]!
    const other = b.states[j]!
    const edges = one.edges.flatMap((edge) =>
      other.edges.flatMap(({ points, target }) => {
        const both = bothPoints(edge.points, points)
        return both.length === 0 ? [] : [{ points: both, to: [edge.target, target] as const }]
      }),
    )
    return { isFinal: one.isFinal && other.isFinal, edges }
  })
}

/** Texts that it does not match. */
export function complement({ states }: Automaton): Automaton {
  const rest = states.length
  const all = states.map(({ edges, isFinal }) => {
    const others = otherPoints(unite(edges.flatMap(({ points }) => points)))
    const open = others.length === 0 ? [] : [{ points: others, target: rest }]
    return { isFinal: !isFinal, edges: [...edges, ...open] }
  })
  return { states: [...all, { isFinal: true, edges: [{ points: anyPoint, target: rest }] }] }
}

/** Exactly these texts. */
export function ofWords(words: readonly string[]): Automaton {
  const states: Array<{ edges: Map<string, number>; isFinal: boolean }> = [
    { edges: new Map(), isFinal: false },
  ]
  for (const word of words) {
    let at = 0
    for (const char of word) {
      const known = states[at]!.edges.get(char)
      if (known === undefined) {
        states[at]!.edges.set(char, states.length)
        at = states.push({ edges: new Map(), isFinal: false }) - 1
      } else at = known
    }
    states[at]!.isFinal = true
  }
  return {
    states: states.map(({ edges, isFinal }) => ({
      isFinal,
      edges: [...edges].map(([char, target]) => ({ points: pointsOf(char), target })),
    })),
  }
}

/** Those of its texts that have so many code points. */
export function ofLength({ states }: Automaton, min: number, max: number): Automaton {
  const isOpen = max === Number.POSITIVE_INFINITY
  const longest = isOpen ? min : max
  return explore<readonly [number, number]>(
    [0, 0],
    ([state, length]) => state * (longest + 1) + length,
    ([state, length]) => {
      const { edges, isFinal } = states[state]!
      const next = Math.min(length + 1, longest)
      const mayGoOn = isOpen || length < longest
      return {
        isFinal: isFinal && length >= min,
        edges: mayGoOn ? edges.map(({ points, target }) => ({ points, to: [target, next] })) : [],
      }
    },
  )
}

export const anyWord: Automaton = {
  states: [{ isFinal: true, edges: [{ points: anyPoint, target: 0 }] }],
}

/** Of an expression without rules. Throws GrammarError where it would be too large. */
export function toAutomaton(expression: Expression): Automaton {
  const { edges, empties, start, end } = thompson(expression)
  let work = 0

  function close(states: readonly number[]): number[] {
    const seen = new Set(states)
    // A set goes on over what is added to it.
    for (const state of seen) for (const next of empties[state]!) seen.add(next)
    work += seen.size
    if (work > mostWork) refuseSize()
    return [...seen]
      .filter((state) => edges[state]!.length > 0 || state === end)
      .sort((a, b) => a - b)
  }

  return explore<readonly number[]>(close([start]), String, (states) => ({
    isFinal: states.includes(end),
    edges: partition(states.flatMap((state) => edges[state]!)).map(({ points, targets }) => ({
      points,
      to: close(targets),
    })),
  }))
}

/** Disjoint sets of code points, and where each leads. */
function partition(edges: readonly Edge[]): { points: CodePoints; targets: number[] }[] {
  const cuts = new Set<number>()
  for (const { points } of edges) {
    for (const [first, last] of points) cuts.add(first).add(last + 1)
  }
  const starts = [...cuts].sort((a, b) => a - b)
  const byTargets = new Map<string, { ranges: [number, number][]; targets: number[] }>()
  for (const [i, first] of starts.slice(0, -1).entries()) {
    const targets = edges
      .filter(({ points }) => hasPoint(points, first))
      .map(({ target }) => target)
    if (targets.length === 0) continue
    const all = [...new Set(targets)].sort((a, b) => a - b)
    const known = byTargets.get(String(all)) ?? { ranges: [], targets: all }
    known.ranges.push([first, starts[i + 1]! - 1])
    byTargets.set(String(all), known)
  }
  return [...byTargets.values()].map(({ ranges, targets }) => ({ points: unite(ranges), targets }))
}

/** States and edges as they are reached from the first. */
function explore<Key>(
  first: Key,
  nameOf: (key: Key) => string | number,
  look: (key: Key) => { isFinal: boolean; edges: { points: CodePoints; to: Key }[] },
): Automaton {
  const ids = new Map([[nameOf(first), 0]])
  const keys = [first]
  const states: State[] = []
  for (let i = 0; i < keys.length; i++) {
    const { isFinal, edges } = look(keys[i]!)
    states.push({
      isFinal,
      edges: edges.map(({ points, to }) => {
        const name = nameOf(to)
        let target = ids.get(name)
        if (target === undefined) {
          target = keys.push(to) - 1
          if (target >= mostStates) refuseSize()
          ids.set(name, target)
        }
        return { points, target }
      }),
    })
  }
  return { states }
}

interface Parts {
  /** Of each state. */
  readonly edges: Edge[][]
  readonly empties: number[][]
}

function thompson(expression: Expression) {
  const parts: Parts = { edges: [], empties: [] }

  function add(): number {
    if (parts.edges.length >= mostParts) refuseSize()
    parts.empties.push([])
    return parts.edges.push([]) - 1
  }

  /** Adds it from a state on; returns where it ends. */
  function build(part: Expression, from: number): number {
    switch (part.kind) {
      case 'char': {
        const to = add()
        if (part.points.length > 0) parts.edges[from]!.push({ points: part.points, target: to })
        return to
      }
      case 'sequence':
        return part.parts.reduce((at, one) => build(one, at), from)
      case 'choice': {
        const to = add()
        for (const option of part.options) {
          const start = add()
          parts.empties[from]!.push(start)
          parts.empties[build(option, start)]!.push(to)
        }
        return to
      }
      case 'repeat':
        return buildRepeat(part, from)
      case 'automaton': {
        const first = part.automaton.states.map(() => add())
        const to = add()
        parts.empties[from]!.push(first[0]!)
        for (const [i, { edges, isFinal }] of part.automaton.states.entries()) {
          for (const { points, target } of edges) {
            parts.edges[first[i]!]!.push({ points, target: first[target]! })
          }
          if (isFinal) parts.empties[first[i]!]!.push(to)
        }
        return to
      }
      case 'rule':
        throw new Error('an automaton has no rules')
    }
  }

  function buildRepeat(
    { body, min, max }: Extract<Expression, { kind: 'repeat' }>,
    from: number,
  ): number {
    let at = from
    for (let i = 0; i < min; i++) at = build(body, at)
    const to = add()
    if (max === Number.POSITIVE_INFINITY) {
      const loop = add()
      parts.empties[at]!.push(loop)
      parts.empties[build(body, loop)]!.push(loop)
      parts.empties[loop]!.push(to)
      return to
    }
    parts.empties[at]!.push(to)
    for (let i = min; i < max; i++) {
      at = build(body, at)
      parts.empties[at]!.push(to)
    }
    return to
  }

  const start = add()
  const end = build(expression, start)
  return { ...parts, start, end }
}

function refuseSize(): never {
  throw new GrammarError(
    `its expressions and lengths need more than ${mostStates} states together: make the numbers in ` +
      'their {…}, minLength and maxLength smaller, or leave one of them out',
  )
}
