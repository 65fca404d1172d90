// Reads a guard's folder whole and checks all of it: a PEFT folder, what its manifest says of the guard,
// and the probe.

import {
  type AdapterFolder,
  readFingerprint,
  readManifestText,
} from '../adapters/adapter-folder.ts'
import { componentsOf } from '../adapters/adapter-tensors.ts'
import { type LoadedAdapter, readPeftFolder } from '../adapters/peft.ts'
import type { MergedAdapter } from '../contracts/adapter.ts'
import {
  inLayerOrder,
  type LinearModule,
  linearModules,
  type ModelConfig,
  type ProbePlace,
} from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import type { LoadedGuard, LoadedProbe } from '../safety/guard.ts'
import { calibrationOf } from './calibration.ts'
import { type GuardManifest, type ProbeManifest, parseGuardManifest } from './guard-manifest.ts'
import { readDirection } from './probe-file.ts'

/** Beyond it a verdict costs more than a token. */
const maxGuardRank = 16

/** The base that a guard must be for. */
export interface GuardBase {
  readonly model: ModelConfig
  readonly digest: string
  /** What the weights hold. */
  readonly merged: readonly MergedAdapter[]
  /** A token of its own, beside those that text is made of. */
  readonly isAdded: (token: number) => boolean
  /** '': the vocabulary has no such token. */
  readonly tokenText: (token: number) => string
  /** The guard reads on the base what it was not measured on. */
  readonly isExact: boolean
}

/** A guard, and what the model needs to be built with for it. */
export interface GuardOfFolder {
  readonly guard: LoadedGuard
  readonly about: Omit<LoadedAdapter, 'components'>
  /** The state of the folder in which it was read. */
  readonly fingerprint: string
  readonly modules: readonly LinearModule[]
  readonly probe: { readonly place: ProbePlace; readonly direction: Float32Array } | null
}

/** Rejects with ServerError. */
export async function readGuard(folder: AdapterFolder, base: GuardBase): Promise<GuardOfFolder> {
  const fingerprint = readFingerprint(folder)
  const manifest = parseGuardManifest(readManifestText(folder))
  checkBase(manifest, base)
  const served = new Set(linearModules)
  const { model } = base
  const options = { kind: 'guard', model, maxRank: maxGuardRank, served } as const
  const { about, matrices, invocationTokens } = await readPeftFolder(folder, options)
  if (about.gaps.length > 0) invalid(about.gaps.join(' '))
  if (invocationTokens?.join() !== String(manifest.token)) {
    const found = invocationTokens === null ? 'not set' : `[${invocationTokens}]`
    invalid(
      `adapter_config.json: alora_invocation_tokens is ${found}; manifest.json names the token ` +
        `${manifest.token}.`,
    )
  }
  const probe = manifest.probe ?? null
  const direction = probe && readProbe(folder, probe, model)
  if (readFingerprint(folder) !== fingerprint) invalid('its files are being written; start again.')
  const components = componentsOf(matrices)
  return {
    guard: {
      info: {
        kind: 'adapter',
        id: folder.id,
        digest: about.digest,
        hasProbe: probe !== null,
        threshold: manifest.threshold,
      },
      token: manifest.token,
      labels: { safe: manifest.labels.safe, unsafe: manifest.labels.unsafe },
      components: components.map((component) => ({ component, scale: 1 })),
      calibrationOf: (applied, part) => calibrationOf(manifest, applied, part, base.merged),
      probe: probe && loadProbe(probe),
      isExact: base.isExact,
    },
    about,
    fingerprint,
    modules: inLayerOrder(about.targetModules),
    probe: probe && direction && { place: { layer: probe.layer, site: probe.site }, direction },
  }
}

function checkBase({ baseDigest, token, labels }: GuardManifest, base: GuardBase): void {
  if (baseDigest !== base.digest) {
    invalid(
      `manifest.json: it is for another base: base_digest is ${baseDigest.slice(0, 12)}…; this ` +
        `server's is ${base.digest.slice(0, 12)}….`,
    )
  }
  const { vocabSize } = base.model
  const named = { 'guard.token': token, 'labels.safe': labels.safe, 'labels.unsafe': labels.unsafe }
  for (const [name, id] of Object.entries(named)) {
    if (id < vocabSize && base.tokenText(id) !== '') continue
    invalid(`manifest.json: ${name} is ${id}, which is no token of this model's vocabulary.`)
  }
  if (!base.isAdded(token)) {
    const text = JSON.stringify(base.tokenText(token).slice(0, 64))
    invalid(
      `manifest.json: guard.token ${token} is the text ${text}; one of the tokenizer's added ` +
        'tokens is needed, which no template uses.',
    )
  }
}

function readProbe(
  folder: AdapterFolder,
  { layer, tensor }: ProbeManifest,
  { numLayers, hiddenSize }: ModelConfig,
): Float32Array {
  if (layer >= numLayers) {
    invalid(
      `manifest.json: guard.probe.layer is ${layer}; the model has layers 0 to ${numLayers - 1}.`,
    )
  }
  return readDirection(folder, tensor, hiddenSize)
}

function loadProbe({ bias, temperature, threshold }: ProbeManifest): LoadedProbe {
  return {
    toScore: (product) => 1 / (1 + Math.exp(-(product + bias) / temperature)),
    threshold,
  }
}

function invalid(message: string): never {
  throw new ServerError('invalid_adapter', message)
}
