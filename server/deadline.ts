// A promise that may take too long: what it gives, or what stands for it then. The work itself goes on; what
// comes of it later is no one's, a rejection too.

/** Resolves or rejects as `work` does within `ms`; else as `onLate` returns or throws. */
export async function unlessLate<T, Late>(
  ms: number,
  work: Promise<T>,
  onLate: () => Late | Promise<Late>,
): Promise<T | Late> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  }).then(onLate)
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
