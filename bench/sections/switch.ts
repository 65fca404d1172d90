// Section switch: the time to the first token when requests switch adapters, loading an adapter
// while others run, and the event-loop lag of the server's front.

import type { ShapeName } from '../models/shapes.ts'
import { type Builder, ratio } from './builder.ts'
import { atMost, type Case, type PeerUse, type Section } from './section.ts'

/** Adapters that the HTTP server finds on disk; the later ones are asked for once each. */
export const httpAdapters = 200
export const firstColdAdapter = 16
/** Adapters of the 7B shape whose loading is timed. */
const coldShape: ShapeName = 'r1-qwen-7b'
export const coldAdapters = 8

export function switchSections(builder: Builder): readonly Section[] {
  const { options, http, timedCase } = builder
  const staying = firstToken(builder, false)
  const switching = firstToken(builder, true)
  const residentGap = gap(builder, false)
  const coldGap = gap(builder, true)
  const lag = timedCase(http, 'event-loop lag of the front, 8 streams, p99', 'lag', {
    streams: 8,
    tokens: options.decodeTokens,
  })
  const store: PeerUse = { ...builder.makeUse('adapter-store', null), shape: coldShape }
  const load = timedCase(store, `cold load of a rank-1 adapter, ${coldShape} shape`, 'load', {})
  const hasServer = options.peers.includes('dutyfree-http')
  return [
    builder.section(
      'switch',
      'switching and loading',
      hasServer ? [staying, switching, residentGap, coldGap, lag, load] : [],
      [
        ratio(switching, staying, 'time to first token: switching over staying', {
          kind: 'about',
          value: 1,
        }),
        ratio(coldGap, residentGap, 'longest gap of running streams: cold load over resident'),
        {
          kind: 'value',
          what: `cold load, ${coldShape} shape (ms)`,
          target: atMost(30),
          of: load.id,
        },
        {
          kind: 'value',
          what: 'event-loop lag of the front, p99 (ms)',
          target: atMost(20),
          of: lag.id,
        },
      ],
    ),
  ]
}

function firstToken({ http, options, timedCase }: Builder, switches: boolean): Case {
  const how = switches ? 'switching between two adapters' : 'same adapter'
  const args = { count: options.isQuick ? 6 : 12, tokens: 32, switches }
  return timedCase(http, `time to first token, ${how}`, 'firstToken', args)
}

function gap({ http, timedCase }: Builder, cold: boolean): Case {
  const adapter = `adapter ${cold ? 'not yet loaded' : 'resident'}`
  const work = `longest gap of 7 streams while a request comes in, ${adapter}`
  return timedCase(http, work, 'gap', { streams: 7, tokens: 48, cold })
}
