// docs/CLIENTS.md as the last run of each part found it: a run of the core leaves the wide part as it is.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../setup.mjs'

const page = join(root, 'docs', 'CLIENTS.md')

function cell(text) {
  return String(text).replaceAll('|', '\\|').replaceAll('\n', ' ')
}

function rowOf({ name, versions, checks, unused }) {
  const told = checks.map(({ check, ok }) => `${ok ? '✓' : '✗'} ${check}`)
  const cells = [name, versions.join(', '), told.join(' · '), unused.join(', ') || '–']
  return `| ${cells.map(cell).join(' | ')} |`
}

function part(results, date, model) {
  const failed = results.flatMap(({ name, checks }) =>
    checks
      .filter(({ ok }) => !ok)
      .map(({ check, why }) => `| ${cell(name)} | ${cell(check)} | ${cell(why)} |`),
  )
  const total = results.reduce((sum, { checks }) => sum + checks.length, 0)
  const table = [
    '| client | version | checks | went unused |',
    '| --- | --- | --- | --- |',
    ...results.map(rowOf),
  ]
  const why = ['', '| client | ✗ | why |', '| --- | --- | --- |', ...failed]
  return [
    `Run of ${date} on \`${model}\`: ${total - failed.length} of ${total} checks.`,
    '',
    ...table,
    ...(failed.length === 0 ? [] : why),
  ].join('\n')
}

/** Throws where the page has not the marks of both parts. */
export function writeClientsPage(results, model) {
  const date = new Date().toISOString().slice(0, 10)
  let text = readFileSync(page, 'utf8')
  for (const [name, isWide] of [
    ['core', false],
    ['wide', true],
  ]) {
    const own = results.filter((result) => result.isWide === isWide)
    if (own.length === 0) continue
    const pattern = new RegExp(`(<!-- ${name}:begin -->\\n)[^]*?(<!-- ${name}:end -->)`)
    if (!pattern.test(text)) throw new Error(`docs/CLIENTS.md has no part "${name}"`)
    text = text.replace(pattern, (_, begin, end) => `${begin}${part(own, date, model)}\n${end}`)
  }
  writeFileSync(page, text)
}
