// The tables of docs/FIELDS.md, from the table that the server decides by. To write them again:
// UPDATE_DOCS=1 npm test -- http-request-fields

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { KnownField, Verdict } from '../../server/http/request/field-verdict.ts'
import { knownFields } from '../../server/http/request/known-fields.ts'
import { messageFields } from '../../server/http/request/message-fields.ts'
import { root } from './root.ts'

const page = join(root, 'docs/FIELDS.md')
const between = /(<!-- fields:begin -->\n)[\s\S]*(\n<!-- fields:end -->)/

type Of<Kind extends Verdict['kind']> = Extract<Verdict, { readonly kind: Kind }>

interface Row<V> {
  readonly name: string
  readonly verdict: V
  /** Where: nothing for both. */
  readonly where: string
}

/** The fields of a kind; one on a single route says which. */
const isOf =
  <Kind extends Verdict['kind']>(kind: Kind) =>
  (verdict: Verdict): verdict is Of<Kind> =>
    verdict.kind === kind

const messageRowsOf = <Kind extends Verdict['kind']>(kind: Kind): Row<Of<Kind>>[] => {
  const is = isOf(kind)
  return Object.entries(messageFields).flatMap(([name, verdict]) =>
    is(verdict) ? [{ name, verdict, where: '' }] : [],
  )
}

const rowsOf = <Kind extends Verdict['kind']>(kind: Kind): Row<Of<Kind>>[] => {
  const is = isOf(kind)
  return Object.entries(knownFields).flatMap(
    ([name, { chat, completions }]: [string, KnownField]) => {
      if (chat === completions) return is(chat) ? [{ name, verdict: chat, where: '' }] : []
      if (is(chat) && is(completions)) {
        return [
          { name, verdict: chat, where: ' (chat)' },
          { name, verdict: completions, where: ' (completions)' },
        ]
      }
      if (is(chat)) return [{ name, verdict: chat, where: ' (chat)' }]
      return is(completions) ? [{ name, verdict: completions, where: ' (completions)' }] : []
    },
  )
}

const cell = (text: string): string => text.replaceAll('|', '\\|')
const shown = ({ name, where }: Row<unknown>): string => `\`${name}\`${where}`

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n')

/** Rows with the same words share a line. */
const grouped = <V>(rows: readonly Row<V>[], words: (verdict: V) => readonly string[]) => {
  const groups = new Map<string, { names: string[]; texts: readonly string[] }>()
  for (const row of rows) {
    const texts = words(row.verdict)
    const group = groups.get(texts.join('\0')) ?? { names: [], texts }
    group.names.push(shown(row))
    groups.set(texts.join('\0'), group)
  }
  return [...groups.values()].map(({ names, texts }) => [names.join(', '), ...texts])
}

export const renderFields = (): string =>
  [
    '## Supported',
    table(
      ['field', 'read as absent'],
      grouped(rowsOf('supported'), ({ absent }) => [absent.text]),
    ),
    '## Other spellings',
    table(
      ['field', 'is', 'but'],
      rowsOf('alias').map((row) => [shown(row), `\`${row.verdict.of}\``, row.verdict.note ?? '']),
    ),
    '## Objects whose fields count as fields of the body',
    table(
      ['field'],
      rowsOf('bag').map((row) => [shown(row)]),
    ),
    '## Left unused, said in the log and in `x-dutyfree-ignored`',
    table(
      ['field'],
      rowsOf('unused').map((row) => [shown(row)]),
    ),
    '## Refused',
    table(
      ['field', 'unless', 'because, or instead'],
      grouped(rowsOf('refused'), ({ unless, remedy }) => [unless.text, remedy]),
    ),
    '## Harmless',
    table(
      ['field', 'why'],
      grouped(rowsOf('harmless'), ({ why }) => [why]),
    ),
    '## Fields of a chat message',
    table(
      ['supported'],
      grouped(messageRowsOf('supported'), () => []),
    ),
    table(
      ['refused', 'unless', 'because, or instead'],
      grouped(messageRowsOf('refused'), ({ unless, remedy }) => [unless.text, remedy]),
    ),
    table(
      ['harmless', 'why'],
      grouped(messageRowsOf('harmless'), ({ why }) => [why]),
    ),
  ].join('\n\n')

/** What the page holds between its marks; with UPDATE_DOCS set it is written there first. */
export const readFieldsPage = (): string => {
  const text = readFileSync(page, 'utf8')
  if (process.env.UPDATE_DOCS)
    writeFileSync(
      page,
      text.replace(between, (_all, begin, end) => `${begin}${renderFields()}${end}`),
    )
  return between.exec(readFileSync(page, 'utf8'))?.[0].split('\n').slice(1, -1).join('\n') ?? ''
}
