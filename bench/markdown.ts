// Markdown that the benchmark writes: tables, and prose wrapped at 100 columns.

const columns = 100

export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)]
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

/** A link stays on one line. */
const words = /\[[^\]]*\]\([^)]*\)\S*|\S+/g

/** Words that would begin a list, a heading or a quotation at the start of a line. */
const opener = /^([-+*>=]|#+|\d+[.)])$/

/** The text in lines of at most 100 columns; those after the first begin with `indent`. */
export function wrap(text: string, indent = ''): string[] {
  const lines: string[] = []
  let current = ''
  for (const word of text.match(words) ?? []) {
    const longer = current === '' ? word : `${current} ${word}`
    if (longer.length <= columns || current.trim() === '') {
      current = longer
    } else if (opener.test(word)) {
      // The word before goes along, so that it stands first.
      const cut = current.lastIndexOf(' ')
      lines.push(current.slice(0, cut))
      current = `${indent}${current.slice(cut + 1)} ${word}`
    } else {
      lines.push(current)
      current = `${indent}${word}`
    }
  }
  return [...lines, current]
}
