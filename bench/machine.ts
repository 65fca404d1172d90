// The machine that a run was made on, and the name of its folder of results.

import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'

export interface Machine {
  readonly cpu: string
  /** The strongest that the engines have kernels for; empty where it is not known. */
  readonly instructionSet: string
  readonly cores: number
  readonly memoryGiB: number
  readonly platform: string
  readonly node: string
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    instructionSet: instructionSetOf(readCpuFlags()),
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform} ${process.arch}`,
    node: process.versions.node,
  }
}

/** As Linux names them, strongest first; the first that a processor has is its own. */
const instructionSets: ReadonlyArray<readonly [flag: string, name: string]> = [
  ['amx_int8', 'amx'],
  ['avx512_vnni', 'avx512-vnni'],
  ['avx512f', 'avx512'],
  ['avx_vnni', 'avx-vnni'],
  ['avx2', 'avx2'],
  ['i8mm', 'i8mm'],
  ['asimddp', 'dotprod'],
  ['asimd', 'neon'],
]

export function instructionSetOf(flags: readonly string[]): string {
  const own = new Set(flags)
  return instructionSets.find(([flag]) => own.has(flag))?.[1] ?? ''
}

/** "flags" of an x86-64 processor, "Features" of an Arm one; none outside Linux. */
function readCpuFlags(): readonly string[] {
  try {
    const text = readFileSync('/proc/cpuinfo', 'utf8')
    return /^(?:flags|Features)\s*:\s*(.*)$/m.exec(text)?.[1]?.split(' ') ?? []
  } catch {
    return []
  }
}

/** Why vLLM's build for processors cannot run here, or null. */
export function lacksVllm(flags: readonly string[] = readCpuFlags()): string | null {
  return flags.includes('avx2') ? null : 'needs AVX2'
}

/** What it computes in: bfloat16 where the processor does, too. */
export function vllmWeights(flags: readonly string[] = readCpuFlags()): 'bfloat16' | 'float32' {
  const has16 = flags.includes('avx512_bf16') || flags.includes('amx_bf16')
  return has16 ? 'bfloat16' : 'float32'
}

/** Words of a processor's name that tell nothing apart. */
const fillers = /\((r|tm)\)|\bcpu\b|\bprocessor\b|\b\d+-core\b|@.*$/g

/** "AMD EPYC" with AVX2 and 2 cores: amd-epyc-avx2-2core. */
export function slugOf({ cpu, instructionSet, cores }: Machine): string {
  const name = cpu.toLowerCase().replaceAll(fillers, ' ')
  const words = name.split(/[^a-z0-9]+/).filter((word) => word !== '')
  const set = instructionSet === '' ? [] : [instructionSet]
  return [...words, ...set, `${cores}core`].join('-')
}

/** One line for reports. */
export function showMachine(machine: Machine): string {
  const { cpu, instructionSet, cores, memoryGiB, platform, node } = machine
  const set = instructionSet === '' ? '' : ` (${instructionSet})`
  return `${cpu}${set}, ${cores} cores, ${memoryGiB} GiB · ${platform} · Node ${node}`
}
