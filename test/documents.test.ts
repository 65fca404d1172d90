// The documents keep their form: width, length, links that lead somewhere, and indexes that name every page.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, it } from 'node:test'
import { root } from './support/root.ts'

const width = 100

/** Tracked ones; in an exported tree, all that are no build output and no installed package. */
function findPages(): string[] {
  // Not the .git of a folder above: an exported tree may lie in another repository.
  if (existsSync(join(root, '.git'))) {
    const git = spawnSync('git', ['ls-files', '-z', '*.md'], { cwd: root, encoding: 'utf8' })
    const listed = git.status === 0 ? git.stdout.split('\0') : []
    if (listed.length > 1) return listed.filter((path) => path && existsSync(join(root, path)))
  }
  const foreign = /(^|\/)(node_modules|dist|runs|\.venv|\.git|\.cache|\.pytest_cache)(\/|$)/
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => path.endsWith('.md') && !foreign.test(path))
}

const read = (path: string): string => readFileSync(join(root, path), 'utf8')

interface Line {
  readonly number: number
  readonly text: string
}

/** The lines that are prose: without fenced and indented code, tables and HTML comments. */
function proseOf(page: string): Line[] {
  const prose: Line[] = []
  let fence = ''
  let isComment = false
  let isList = false
  let isIndentedCode = false
  let wasBlank = true
  for (const [index, text] of page.split('\n').entries()) {
    const isBlank = text.trim() === ''
    const mark = /^\s*(```+|~~~+)/.exec(text)?.[1] ?? ''
    if (fence !== '') {
      if (mark.startsWith(fence)) fence = ''
      continue
    }
    if (mark !== '') {
      fence = mark
      continue
    }
    if (isComment || text.startsWith('<!--')) {
      isComment = !text.includes('-->')
      continue
    }
    if (/^\s*([-*+]|\d+[.)]) /.test(text)) isList = true
    else if (!isBlank && !/^\s/.test(text)) isList = false
    isIndentedCode = /^ {4}/.test(text) && !isList && (wasBlank || isIndentedCode)
    wasBlank = isBlank
    if (!isBlank && !isIndentedCode && !/^\s*\|/.test(text)) prose.push({ number: index + 1, text })
  }
  return prose
}

/** What counts of a line: link targets and addresses cannot be wrapped. */
const shown = (text: string): string =>
  text.replace(/\]\([^)]*\)/g, ']()').replace(/<?https?:\/\/\S+/g, '')

/** GitHub's anchor of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .replace(/\]\([^)]*\)/g, ']')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(' ', '-')

const anchorsOf = (path: string): string[] =>
  [...read(path).matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = '']) => anchorOf(heading))

/** Paths of links that stay in the repository, with the anchor where there is one. */
function linksOf(path: string): { target: string; anchor: string }[] {
  const prose = read(path)
    .replace(/^\s*```[\s\S]*?^\s*```/gm, '')
    .replace(/`[^`\n]*`/g, '')
  return [...prose.matchAll(/\]\(([^)\s]+)[^)]*\)/g)]
    .map(([, link = '']) => link)
    .filter((link) => !/^[a-z]+:/.test(link))
    .map((link) => {
      const [file = '', anchor = ''] = link.split('#')
      const target = file === '' ? path : normalize(join(dirname(path), decodeURIComponent(file)))
      return { target, anchor }
    })
}

const pagesIn = (folder: string): string[] =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.md') && name !== 'README.md')
    .sort()

const listedIn = (index: string, folder: string): string[] =>
  linksOf(index)
    .filter(({ target }) => dirname(target) === folder && target !== index)
    .map(({ target }) => target.slice(folder.length + 1))
    .sort()

describe('documents', () => {
  const pages = findPages()

  it('prose is wrapped at 100 columns', () => {
    const long = pages.flatMap((path) =>
      proseOf(read(path))
        .filter(({ text }) => [...shown(text)].length > width)
        .map(({ number, text }) => `${path}:${number} has ${[...shown(text)].length} columns`),
    )
    assert.deepEqual(long, [])
  })

  it('README and ARCHITECTURE are read in five minutes each', () => {
    const most = { 'README.md': 10_000, 'ARCHITECTURE.md': 9_000 }
    for (const [path, bytes] of Object.entries(most)) {
      const { size } = statSync(join(root, path))
      assert.ok(size <= bytes, `${path} must be ≤ ${bytes} bytes; got ${size}`)
    }
  })

  it('every relative link leads to a file, and to a heading of it', () => {
    const lost = pages.flatMap((path) =>
      linksOf(path)
        .filter(({ target, anchor }) => {
          if (!existsSync(join(root, target))) return true
          return anchor !== '' && target.endsWith('.md') && !anchorsOf(target).includes(anchor)
        })
        .map(({ target, anchor }) => `${path} links to ${target}${anchor && `#${anchor}`}`),
    )
    assert.deepEqual(lost, [])
  })

  it('the log’s index lists every page of the log once', () => {
    assert.deepEqual(listedIn('docs/LOG.md', 'docs/log'), pagesIn('docs/log'))
  })

  it('a page of the log is dated and opens with question, command, machine and commit', () => {
    for (const name of pagesIn('docs/log')) {
      assert.match(name, /^\d{4}-\d{2}-\d{2}-[a-z0-9-]+\.md$/)
      const head = [...read(`docs/log/${name}`).matchAll(/^- \*\*(\w+)\.\*\*/gm)].map(
        ([, at]) => at,
      )
      assert.deepEqual(head.slice(0, 4), ['Question', 'Command', 'Machine', 'Commit'], name)
      assert.match(read(`docs/log/${name}`), /^\*\*Conclusion\.\*\* /m, name)
    }
  })

  it('the index of decisions lists every decision once', () => {
    assert.deepEqual(
      listedIn('docs/decisions/README.md', 'docs/decisions'),
      pagesIn('docs/decisions'),
    )
  })

  it('a decision is numbered and has its four parts', () => {
    for (const [index, name] of pagesIn('docs/decisions').entries()) {
      const number = String(index + 1).padStart(2, '0')
      assert.match(name, new RegExp(`^${number}-[a-z0-9-]+\\.md$`))
      const page = read(`docs/decisions/${name}`)
      assert.match(page, new RegExp(`^# ${number} · `))
      const parts = [...page.matchAll(/^\*\*(\w+)\.\*\* /gm)].map(([, part]) => part)
      assert.deepEqual(parts, ['Context', 'Decision', 'Consequence', 'Measured'], name)
    }
  })
})
