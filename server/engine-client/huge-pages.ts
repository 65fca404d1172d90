// Asks glibc to put large allocations on huge pages, where the kernel gives them on request ("madvise",
// the usual setting). A decode step reads every weight once; with pages of 4 KiB much of its time goes
// into address translation. glibc reads the setting when a process starts; other C libraries ignore it.

const tunable = 'glibc.malloc.hugetlb'

type Environment = Readonly<Record<string, string | undefined>>

/** A value that the operator has set stays. */
export function withHugePages(env: Environment): Environment {
  const given = env.GLIBC_TUNABLES
  if (given?.includes(tunable)) return env
  const wanted = `${tunable}=1`
  return { ...env, GLIBC_TUNABLES: given ? `${given}:${wanted}` : wanted }
}
