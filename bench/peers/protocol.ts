// How the benchmark talks to a peer: one JSON object a line, requests on standard input, answers on
// standard output behind an "@" (native libraries print there too). A peer does one thing at a time
// and keeps its model loaded between requests.

import { createInterface } from 'node:readline'

/** What a peer says of itself once it is loaded: versions, libraries, settings. */
export type PeerInfo = Readonly<Record<string, string | number | boolean>>

export type PeerRequest = { readonly id: number; readonly op: string; readonly args: unknown }

export type PeerMessage =
  | { readonly kind: 'ready'; readonly info: PeerInfo }
  | { readonly kind: 'answer'; readonly id: number; readonly value: Measurement }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string }

/** Numbers by name; `ms` and `tokens` where the operation took time for tokens. */
export type Measurement = Readonly<Record<string, number>>

export interface DecodeArgs {
  /** Rows that run in one batch. */
  readonly streams: number
  /** Steps, each of which gives every stream one token. */
  readonly tokens: number
  /** Tokens in the cache of every stream before. */
  readonly past: number
  /** One adapter a stream by number, or null for the base. */
  readonly adapters: ReadonlyArray<number | null>
}

export interface PrefillArgs {
  readonly tokens: number
  readonly adapter: number | null
}

export type Operation = (args: never) => Promise<Measurement>

export interface Peer {
  readonly info: PeerInfo
  readonly operations: Readonly<Record<string, Operation>>
  close?(): Promise<void> | void
}

function say(message: PeerMessage): void {
  process.stdout.write(`@${JSON.stringify(message)}\n`)
}

/**
 * The peer's side: opens what its one argument (JSON) describes and serves until the input ends.
 */
export async function servePeer<Spec>(open: (spec: Spec) => Promise<Peer>): Promise<void> {
  const peer = await open(JSON.parse(process.argv[2] ?? '{}') as Spec)
  say({ kind: 'ready', info: peer.info })
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, op, args } = JSON.parse(line) as PeerRequest
    try {
      const operation = peer.operations[op]
      if (operation === undefined) throw new Error(`this peer has no operation ${op}`)
      say({ kind: 'answer', id, value: await operation(args as never) })
    } catch (error) {
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
      say({ kind: 'failed', id, message })
    }
  }
  await peer.close?.()
  process.exit(0)
}

/**
 * Token ids that differ from run to run, so that no cache of prompts can know them, and that every
 * shape has.
 */
export function randomTokens(count: number): number[] {
  return Array.from({ length: count }, () => 1000 + Math.floor(Math.random() * 48_000))
}
