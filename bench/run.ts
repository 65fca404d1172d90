// Runs one section: its peers are loaded side by side, warmed up, and then measured in turn, round
// by round, so that what else the machine does meets them all alike. One peer computes at a time.

import { loadavg } from 'node:os'
import { performance } from 'node:perf_hooks'
import type { PeerProcess } from './peer-process.ts'
import type { Measurement, PeerInfo } from './peers/protocol.ts'
import { gist } from './report.ts'
import { engineName, inUnit, type MissingPeer, type SectionResult } from './results.ts'
import type { Case, PeerUse, Section } from './sections/section.ts'

export interface SectionOptions {
  readonly rounds: number
  /** Asked before every round but the first, with what the last one took. */
  readonly mayGoOn: (roundMs: number) => boolean
  readonly launch: (use: PeerUse) => Promise<PeerProcess>
  /** Called before every measurement and every load. */
  readonly onStep: (what: string) => void
}

const warmUpTokens = 8
const warmUpPrompt = 512

/** The same work in little: caches and buffers are as large after a few steps as after many. */
function warmUpArgs({ op, args }: Case): Case['args'] {
  if (op === 'decode') return { ...args, tokens: warmUpTokens }
  if (op === 'prefill') return { ...args, tokens: Math.min(Number(args.tokens), warmUpPrompt) }
  return args
}

/** What a launch throws where this machine's processor cannot run the peer. */
export class UnsupportedPeer extends Error {}

function keyOf(use: PeerUse): string {
  return JSON.stringify(use)
}

export async function runSection(
  section: Section,
  { rounds, mayGoOn, launch, onStep }: SectionOptions,
): Promise<SectionResult> {
  const before = loadavg()[0]!
  const peers = new Map<string, PeerProcess>()
  const missing = new Map<string, MissingPeer>()
  const measured = new Map<string, Measurement[]>()

  function drop(use: PeerUse, error: unknown) {
    const reason = error instanceof Error ? error.message : String(error)
    const isUnsupported = error instanceof UnsupportedPeer
    missing.set(keyOf(use), {
      peer: engineName(use),
      reason: gist(reason),
      ...(isUnsupported && { isUnsupported }),
    })
    console.error(`dutyfree: ${engineName(use)} is left out: ${reason}`)
  }
  function running() {
    return section.cases.filter(({ use }) => !missing.has(keyOf(use)))
  }

  async function measure(one: Case, args: Case['args']): Promise<void> {
    try {
      const value = await peers.get(keyOf(one.use))!.call(one.op, args)
      const all = measured.get(one.id) ?? []
      measured.set(one.id, [...all, value])
    } catch (error) {
      drop(one.use, error)
    }
  }

  try {
    for (const { use } of section.cases) {
      if (peers.has(keyOf(use)) || missing.has(keyOf(use))) continue
      onStep(`loading ${engineName(use)}`)
      await launch(use)
        .then((peer) => peers.set(keyOf(use), peer))
        .catch((error: unknown) => drop(use, error))
    }
    let roundMs = 0
    for (let round = 0; round <= rounds; round++) {
      if (round > 1 && !mayGoOn(roundMs)) break
      const start = performance.now()
      // The first round only warms up: caches fill, buffers grow.
      if (round === 1) measured.clear()
      // Every second round runs backwards, so that a drift favours nobody.
      const order = round % 2 === 0 ? running() : running().toReversed()
      for (const one of order) {
        if (missing.has(keyOf(one.use))) continue
        onStep(`${round === 0 ? 'warm-up' : `round ${round}/${rounds}`} · ${one.work}`)
        await measure(one, round === 0 ? warmUpArgs(one) : one.args)
      }
      roundMs = performance.now() - start
    }
  } finally {
    await Promise.all([...peers.values()].map((peer) => peer.stop()))
  }

  const cases = running().map((one) => {
    const measurements = measured.get(one.id) ?? []
    const values = measurements.map((measurement) => inUnit(one, measurement))
    return { id: one.id, values, measurements }
  })
  const infos = section.cases.flatMap(({ use }): Array<[string, PeerInfo]> => {
    const peer = peers.get(keyOf(use))
    return peer === undefined ? [] : [[engineName(use), peer.info]]
  })
  return {
    section,
    load: [before, loadavg()[0]!],
    cases,
    missing: [...missing.values()],
    peers: Object.fromEntries(infos),
  }
}
