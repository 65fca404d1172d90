// Numbers of bytes as people read them, in binary units.

/** Rounded up. */
export function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20)
}

/** "12 KiB", "7 MiB", "3.5 GiB" */
export function readableBytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GiB`
  return bytes >= 2 ** 20 ? `${mebibytes(bytes)} MiB` : `${Math.ceil(bytes / 2 ** 10)} KiB`
}
