// Threads by default: cores, not logical processors; and no thread of the engine is tied to one core.

import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { describe, it } from 'node:test'
import { countCores, countPhysical } from '../server/runtime/core-count.ts'

const processor = (socket: number, core: number) =>
  `processor\t: 0\nphysical id\t: ${socket}\nsiblings\t: 4\ncore id\t\t: ${core}\n`

describe('cores', () => {
  it('are counted once however many threads each has, over all sockets', () => {
    const twoThreads = [0, 1, 0, 1].map((core) => processor(0, core)).join('\n')
    assert.equal(countPhysical(twoThreads), 2)
    const twoSockets = [processor(0, 0), processor(0, 1), processor(1, 0), processor(1, 1)]
    assert.equal(countPhysical(twoSockets.join('\n')), 4)
  })

  it('are the logical processors where the system does not tell', () => {
    const unreadable = () => {
      throw new Error('ENOENT')
    }
    assert.equal(countCores(unreadable), availableParallelism())
    assert.equal(
      countCores(() => 'processor : 0\nBogoMIPS : 50\n'),
      availableParallelism(),
    )
  })

  it('are never more than this process may use', () => {
    const many = Array.from({ length: 4096 }, (_, core) => processor(0, core)).join('\n')
    assert.equal(
      countCores(() => many),
      availableParallelism(),
    )
    assert.equal(
      countCores(() => processor(0, 0)),
      1,
    )
  })
})
