// Where a text stands in a grammar, and which tokens may come next. A state is a set of places, each a
// node and what it returns to; states are immutable, so that a text goes back by an earlier one. What
// was worked out once is kept: bytes lead from state to state as in a table.

import { GrammarError } from './expression.ts'
import type { Machine } from './machine.ts'
import type { TokenTrie } from './token-trie.ts'

/** What a place returns to: a call, or a repetition with its count. */
interface Frame {
  readonly node: number
  readonly count: number
  readonly parent: Frame | null
  readonly id: number
  readonly children: Map<number, Frame>
}

interface Place {
  readonly node: number
  readonly frame: Frame
}

export interface MatcherState {
  readonly places: readonly Place[]
  /** The text may end here. */
  readonly isFinal: boolean
  /** By class of byte; null: it may not come, undefined: not looked at yet. */
  readonly next: Array<MatcherState | null | undefined>
}

export interface MatcherLimits {
  /** Places of one state. */
  readonly places: number
  /** New states for one answer. */
  readonly states: number
  /** States that are kept. */
  readonly kept: number
}

const usualLimits: MatcherLimits = { places: 20_000, states: 30_000, kept: 20_000 }
const mostWork = 4_000_000

export type Matcher = ReturnType<typeof createMatcher>

export function createMatcher(machine: Machine, limits: MatcherLimits = usualLimits) {
  const { nodes, classOf, numClasses } = machine
  const frames = createFrames(nodes.length)
  let root = frames.root()
  let states = new Map<string, MatcherState>()
  let newStates = 0
  let work = 0
  const samples = new Uint8Array(numClasses)
  for (let byte = 255; byte >= 0; byte--) samples[classOf[byte]!] = byte

  /** All places that can be reached without reading. */
  function close(from: readonly Place[]): MatcherState {
    const seen = new Set<number>()
    const places: Place[] = []
    const open = [...from]
    let isFinal = false

    /** A repetition of which `count` rounds are done. */
    function arrive(node: number, count: number, parent: Frame): void {
      const loop = nodes[node]!
      if (loop.kind !== 'loop') throw new Error('a count belongs to a repetition')
      const { body, min, max, next } = loop
      const counted = max === Number.POSITIVE_INFINITY ? Math.min(count, min) : count
      const frame = frames.push(node, counted, parent)
      const key = -1 - frame.id
      if (seen.has(key)) return
      seen.add(key)
      if (count >= min) open.push({ node: next, frame: parent })
      if (count < max && body >= 0) open.push({ node: body, frame })
    }

    for (let place = open.pop(); place !== undefined; place = open.pop()) {
      if (++work > mostWork) refuseWork()
      const { frame } = place
      const key = place.node + frame.id * nodes.length
      if (seen.has(key)) continue
      seen.add(key)
      const node = nodes[place.node]!
      switch (node.kind) {
        case 'byte':
          places.push(place)
          if (places.length > limits.places) refuseWork()
          break
        case 'split':
          for (const target of node.targets) open.push({ node: target, frame })
          break
        case 'call': {
          // What returns to an end returns to where that returns to.
          const after = nodes[node.next]!.kind === 'end' ? frame : frames.push(node.next, 0, frame)
          open.push({ node: node.target, frame: after })
          break
        }
        case 'loop':
          arrive(place.node, 0, frame)
          break
        case 'end':
          if (frame.parent === null) isFinal = true
          else if (nodes[frame.node]!.kind === 'loop') {
            arrive(frame.node, frame.count + 1, frame.parent)
          } else open.push({ node: frame.node, frame: frame.parent })
      }
    }
    return intern(places, isFinal)
  }

  function intern(places: Place[], isFinal: boolean): MatcherState {
    places.sort((a, b) => a.node - b.node || a.frame.id - b.frame.id)
    let key = isFinal ? '.' : ''
    for (const { node, frame } of places) key += `${node}:${frame.id},`
    const known = states.get(key)
    if (known !== undefined) return known
    if (++newStates > limits.states) refuseWork()
    const state = { places, isFinal, next: new Array(numClasses).fill(undefined) }
    states.set(key, state)
    return state
  }

  function step(state: MatcherState, byteClass: number): MatcherState | null {
    const byte = samples[byteClass]!
    const reached: Place[] = []
    for (const { node, frame } of state.places) {
      const reader = nodes[node]!
      if (reader.kind !== 'byte') continue
      for (const { first, last, target } of reader.edges) {
        if (first <= byte && byte <= last) reached.push({ node: target, frame })
      }
    }
    const next = reached.length === 0 ? null : close(reached)
    state.next[byteClass] = next
    return next
  }

  /** Each question has the same means; what too many states were kept for is forgotten. */
  function begin(): void {
    newStates = 0
    work = 0
    if (states.size <= limits.kept) return
    states = new Map()
    root = frames.root()
  }

  return {
    start(): MatcherState {
      begin()
      return close([{ node: machine.start, frame: root }])
    },

    /** Null: these bytes may not come. */
    read(state: MatcherState, bytes: Uint8Array): MatcherState | null {
      begin()
      let at: MatcherState | null = state
      for (const byte of bytes) {
        const byteClass: number = classOf[byte]!
        const next: MatcherState | null | undefined = at.next[byteClass]
        at = next === undefined ? step(at, byteClass) : next
        if (at === null) return null
      }
      return at
    },

    /** Sets the bits of tokens that may come, in `loops` of those that stay here; returns how many come. */
    allow(state: MatcherState, trie: TokenTrie, bits: Uint32Array, loops?: Uint32Array): number {
      begin()
      const { bytes, depths, tokens, skips, twins } = trie
      const path: MatcherState[] = [state]
      let numAllowed = 0
      for (let i = 0; i < bytes.length; ) {
        const depth = depths[i]!
        const at = path[depth - 1]!
        const byteClass = classOf[bytes[i]!]!
        let next = at.next[byteClass]
        if (next === undefined) next = step(at, byteClass)
        if (next === null) {
          i = skips[i]!
          continue
        }
        path[depth] = next
        for (let id = tokens[i]!; id >= 0; id = twins[id]!) {
          bits[id >> 5]! |= 1 << (id & 31)
          if (next === state && loops !== undefined) loops[id >> 5]! |= 1 << (id & 31)
          numAllowed++
        }
        i++
      }
      return numAllowed
    },
  }
}

/** Frames of the same place and return are the same frame. */
function createFrames(numNodes: number) {
  let numFrames = 0

  function create(node: number, count: number, parent: Frame | null): Frame {
    return { node, count, parent, id: numFrames++, children: new Map() }
  }

  return {
    root: () => create(-1, 0, null),
    push(node: number, count: number, parent: Frame): Frame {
      const key = node + count * numNodes
      let frame = parent.children.get(key)
      if (frame === undefined) {
        frame = create(node, count, parent)
        parent.children.set(key, frame)
      }
      return frame
    },
  }
}

function refuseWork(): never {
  throw new GrammarError(
    'too much of it may match at the same place: nested repetitions and overlapping alternatives ' +
      'have to be simpler',
  )
}
