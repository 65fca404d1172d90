// Text of clients and files as a log may show it: what is not printed, ends a line or turns its
// direction stands as \uXXXX, which JSON reads as the same text.

const unprinted = /[\p{C}\p{Zl}\p{Zp}]/gu

export function escapeUnprinted(text: string): string {
  return text.replace(unprinted, escapeOne)
}

/** A line of the log with its end. */
export function escapeLine(line: string): string {
  return line.replace(unprinted, (char) => (char === '\n' ? char : escapeOne(char)))
}

function escapeOne(char: string): string {
  const units = Array.from({ length: char.length }, (_, i) => char.charCodeAt(i))
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('')
}

/** A name from a file, safe and short enough for a message. */
export function quoteName(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}…` : name)
}
