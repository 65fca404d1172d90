// Asks glibc to put large allocations on huge pages where the kernel gives them on request ("madvise",
// the usual setting): a decode step reads every weight once, and with pages of 4 KiB a good part of it
// is looking them up. glibc reads this when a process starts. Other C libraries ignore it.

const tunable = 'glibc.malloc.hugetlb'

type Environment = Readonly<Record<string, string | undefined>>

/** What the operator has set about it stands. */
export function withHugePages(env: Environment): Environment {
  const given = env.GLIBC_TUNABLES
  if (given?.includes(tunable)) return env
  const wanted = `${tunable}=1`
  return { ...env, GLIBC_TUNABLES: given ? `${given}:${wanted}` : wanted }
}
