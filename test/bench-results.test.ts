// What becomes of a run: the folder of its machine, the history, and the tables in the documents,
// which are those that the committed run gives.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { readCommit } from '../bench/commit.ts'
import {
  blocks,
  documentedRun,
  readmeRows,
  renderPerformanceBlock,
  renderReadmeBlock,
  replaceBlock,
  writeDocs,
} from '../bench/doc-blocks.ts'
import { historyHeads, historyRows, runOf } from '../bench/history.ts'
import { instructionSetOf, type Machine, slugOf } from '../bench/machine.ts'
import { wrap } from '../bench/markdown.ts'
import { parseOptions } from '../bench/options.ts'
import { createOutput, readResults, resultName } from '../bench/output.ts'
import { planSections } from '../bench/plan.ts'
import { renderReport } from '../bench/report.ts'
import type { Results } from '../bench/results.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const resultsFolder = join(root, 'bench', 'results')
const documented = readResults(join(root, `${documentedRun}.json`))
const history = readFileSync(join(resultsFolder, 'history.csv'), 'utf8').trimEnd().split('\n')

/** A whole quick run in which everything is equally fast. */
const made: Results = {
  date: '2026-01-02T03:04:05.678Z',
  commit: 'abcdef0',
  dirty: false,
  command: 'npm run bench -- --quick',
  machine: {
    cpu: 'AMD EPYC',
    instructionSet: 'avx2',
    cores: 2,
    memoryGiB: 24,
    platform: 'linux x64',
    node: '20.0.0',
  },
  rounds: 2,
  threads: 2,
  promptTokens: 512,
  decodeTokens: 32,
  sections: planSections(parseOptions(['--quick']), 'avx2').map((section) => ({
    section,
    load: [0.1, 0.2],
    cases: section.cases.map(({ id }) => ({ id, values: [10, 20], measurements: [] })),
    missing: [],
    peers: {},
  })),
}

/** Every committed run with files of its own: machine folder and path without the ending. */
const kept = readdirSync(resultsFolder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .flatMap(({ name: folder }) =>
    readdirSync(join(resultsFolder, folder))
      .filter((file) => file.startsWith('latest') && file.endsWith('.json'))
      .map((file) => ({ folder, base: join(resultsFolder, folder, file.slice(0, -5)) })),
  )

/** Lines over 100 columns, but for tables. */
function longLines(markdown: string): string[] {
  return markdown.split('\n').filter((line) => line.length > 100 && !line.startsWith('|'))
}

describe('the machine of a run', () => {
  const machine = (cpu: string, instructionSet = 'avx2', cores = 2): Machine => {
    return { cpu, instructionSet, cores, memoryGiB: 24, platform: 'linux x64', node: '20.0.0' }
  }

  it('names its folder by processor, instruction set and cores', () => {
    assert.equal(slugOf(machine('AMD EPYC')), 'amd-epyc-avx2-2core')
    assert.equal(
      slugOf(machine('Intel(R) Xeon(R) Processor @ 2.10GHz', 'amx', 4)),
      'intel-xeon-amx-4core',
    )
    assert.equal(
      slugOf(machine('AMD Ryzen 9 7950X 16-Core Processor', 'avx512-vnni', 32)),
      'amd-ryzen-9-7950x-avx512-vnni-32core',
    )
    assert.equal(slugOf(machine('Apple M2 Pro', '', 10)), 'apple-m2-pro-10core')
  })

  it('has the strongest instruction set that the engines have kernels for', () => {
    assert.equal(instructionSetOf(['sse2', 'avx', 'avx2', 'fma']), 'avx2')
    assert.equal(instructionSetOf(['avx2', 'avx512f', 'avx512_vnni', 'avx_vnni']), 'avx512-vnni')
    assert.equal(instructionSetOf(['avx2', 'avx512f', 'avx512_vnni', 'amx_int8']), 'amx')
    assert.equal(instructionSetOf(['fp', 'asimd', 'asimddp']), 'dotprod')
    assert.equal(instructionSetOf([]), '')
  })
})

describe('the commit of a run', () => {
  it('is dirty when something measured was changed, not when results were written', () => {
    const folder = join(temp, 'repository')
    mkdirSync(join(folder, 'server'), { recursive: true })
    mkdirSync(join(folder, 'bench', 'results'), { recursive: true })
    writeFileSync(join(folder, 'server', 'main.ts'), '1\n')
    const identity = ['user.name=test', 'user.email=test@localhost', 'commit.gpgsign=false']
    const flags = identity.flatMap((setting) => ['-c', setting])
    const git = (...args: string[]) => execFileSync('git', [...flags, ...args], { cwd: folder })
    git('init', '--quiet')
    git('add', '.')
    git('commit', '--quiet', '--message', 'first')
    const { commit, dirty } = readCommit(folder)
    assert.match(commit, /^[0-9a-f]{7,}$/)
    assert.equal(dirty, false)
    writeFileSync(join(folder, 'bench', 'results', 'history.csv'), 'run\n')
    writeFileSync(join(folder, 'notes.md'), 'not measured\n')
    assert.equal(readCommit(folder).dirty, false)
    writeFileSync(join(folder, 'server', 'main.ts'), '2\n')
    assert.deepEqual(readCommit(folder), { commit, dirty: true })
  })

  it('is said to have changes wherever the run is shown', () => {
    const clean: Results = { ...made, dirty: false }
    const dirty: Results = { ...made, dirty: true }
    for (const render of [renderReport, renderReadmeBlock, renderPerformanceBlock]) {
      assert.match(render(dirty), new RegExp(`commit ${made.commit} \\*\\*with changes\\*\\*`))
      assert.doesNotMatch(render(clean), /with changes/)
    }
  })
})

describe('where a run goes', () => {
  it('a whole run is the latest of its machine; any other has a name of its own', () => {
    const name = (...args: string[]) => resultName(parseOptions(args), made.sections)
    assert.equal(name('--quick'), 'latest')
    assert.equal(name(), 'latest')
    assert.equal(name('--quick', '--only', 'decode'), 'latest-quick-decode')
    assert.equal(
      name('--shape', 'r1-qwen-1.5b', '--only', 'decode,http', '--tokens', '32'),
      'latest-r1-qwen-1.5b-decode-http-changed',
    )
    assert.equal(name('--quick', '--rounds', '1'), 'latest-quick-changed')
    const [first, ...rest] = made.sections
    const missing = [{ peer: 'llama.cpp Q4_0', reason: 'no library' }]
    const sections = [{ ...first!, missing }, ...rest]
    assert.equal(resultName(parseOptions(['--quick']), sections), 'latest-quick-incomplete')
    const unsupported = { ...missing[0]!, isUnsupported: true }
    const whole = [{ ...first!, missing: [unsupported] }, ...rest]
    assert.equal(resultName(parseOptions(['--quick']), whole), 'latest')
  })

  it('replaces the last whole run when it is over, and adds each section to the history once', () => {
    const folder = join(temp, 'results')
    const place = join(folder, slugOf(made.machine))
    mkdirSync(place, { recursive: true })
    writeFileSync(join(place, 'latest.json'), 'before')
    const output = createOutput(folder, parseOptions(['--quick']))
    for (let count = 1; count <= made.sections.length; count++) {
      output.keep({ ...made, sections: made.sections.slice(0, count) })
    }
    assert.equal(readFileSync(join(place, 'latest.json'), 'utf8'), 'before')
    assert.equal(output.finish(made), join(place, 'latest'))
    assert.deepEqual(readResults(join(place, 'latest.json')), made)
    assert.equal(existsSync(join(place, 'unfinished.json')), false)
    const lines = readFileSync(join(folder, 'history.csv'), 'utf8').trimEnd().split('\n')
    assert.deepEqual(lines, [historyHeads.join(','), ...historyRows(made)])
  })
})

describe('the history', () => {
  it('names run, commit, machine and numbers of every comparison, and quotes commas', () => {
    const [row] = historyRows({ ...made, dirty: true })
    assert.equal(
      row,
      '2026-01-02T0304-quick,2026-01-02T03:04:05.678Z,abcdef0,yes,amd-epyc-avx2-2core,' +
        'npm run bench -- --quick,qwen2.5-0.5b,' +
        '"decode, 1 stream: int4-128 over the best peer (llama.cpp Q4_0)",1,1,1,2,≥ 1.8,no',
    )
    assert.equal(runOf({ date: '2026-11-24T16:25:09.217Z', command: 'x' }), '2026-11-24T1625')
  })

  it('has a row a line for the runs that are kept, under its heads', () => {
    assert.equal(history[0], historyHeads.join(','))
    const lines = new Set(history)
    assert.equal(lines.size, history.length)
    for (const { base } of kept) {
      for (const row of historyRows(readResults(`${base}.json`))) assert.ok(lines.has(row), row)
    }
  })
})

describe('the committed runs', () => {
  for (const { folder, base } of kept) {
    it(`${base.slice(root.length + 1)} is of its folder's machine and gives its report`, () => {
      const results = readResults(`${base}.json`)
      assert.equal(slugOf(results.machine), folder)
      assert.equal(readFileSync(`${base}.md`, 'utf8'), renderReport(results))
    })
  }

  it('are reported in lines of at most 100 columns', () => {
    for (const { base } of kept) {
      const results = readResults(`${base}.json`)
      assert.deepEqual(longLines(renderReport(results)), [])
    }
    assert.deepEqual(longLines(renderReadmeBlock(documented)), [])
    assert.deepEqual(longLines(renderPerformanceBlock(documented)), [])
  })
})

describe('the tables in the documents', () => {
  for (const { document, render } of blocks) {
    it(`${document} shows ${documentedRun}; npm run bench -- --write-docs writes it`, () => {
      const text = readFileSync(join(root, document), 'utf8')
      assert.equal(text, replaceBlock(text, render(documented)))
    })
  }

  it('the README names comparisons of the plan, and keeps a failed one in bold', () => {
    const planned = new Set(
      planSections(parseOptions(['--quick']), 'avx2').flatMap(({ comparisons }) =>
        comparisons.map(({ what }) => what),
      ),
    )
    for (const { what } of readmeRows) assert.ok(planned.has(what), what)
    assert.match(renderReadmeBlock(made), /int4-128 over the best peer .*\*\*not met\*\* \|/)
    const withoutHttp = made.sections.filter(({ section }) => section.name !== 'http')
    assert.match(
      renderReadmeBlock({ ...made, sections: withoutHttp }),
      /HTTP server over a bare loop .*\*\*not run\*\* \|/,
    )
  })

  it('are written between their markers, and nothing else of the document changes', () => {
    const folder = join(temp, 'documents')
    mkdirSync(join(folder, 'docs'), { recursive: true })
    mkdirSync(join(folder, documentedRun, '..'), { recursive: true })
    writeFileSync(join(folder, `${documentedRun}.json`), JSON.stringify(made))
    const empty = '# Title\n\n<!-- bench:begin -->\n<!-- bench:end -->\n\nrest\n'
    for (const { document } of blocks) writeFileSync(join(folder, document), empty)
    assert.deepEqual(writeDocs(folder), ['README.md', 'docs/PERFORMANCE.md'])
    writeDocs(folder)
    for (const { document, render } of blocks) {
      const block = `<!-- bench:begin -->\n${render(made)}\n<!-- bench:end -->`
      const text = readFileSync(join(folder, document), 'utf8')
      assert.equal(text, `# Title\n\n${block}\n\nrest\n`)
    }
    assert.throws(() => replaceBlock('# Title\n', 'x'), /needs <!-- bench:begin -->/)
  })
})

describe('prose that is written', () => {
  it('is wrapped at 100 columns, links whole and no line begun with what would start a list', () => {
    const words = Array.from({ length: 60 }, (_, i) => `word${i}`).join(' ')
    assert.equal(wrap(words).join(' '), words)
    assert.ok(wrap(words).every((line) => line.length <= 100))
    const long = 'x'.repeat(97)
    assert.deepEqual(wrap(`${long} y - z`), [long, 'y - z'])
    assert.deepEqual(wrap(`${long} [a b](c d).`), [long, '[a b](c d).'])
    assert.deepEqual(wrap(`- ${long} more`, '  '), [`- ${long}`, '  more'])
  })
})
