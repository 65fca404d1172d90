// The adapters of a batch's rows: what lies where in the memory that the graph reads.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { RankOne } from '../server/contracts/adapter.ts'
import { toHalves } from '../server/contracts/float16.ts'
import { adapterA, adapterB } from '../server/graph/adapter-site.ts'
import { createAdapterRows } from '../server/model/adapter-rows.ts'
import type { Tensor } from '../server/runtime/session.ts'
import { smallModel } from './support/tensor-files.ts'

const config = { ...smallModel, numLayers: 2, hiddenSize: 2, intermediateSize: 3 }
const sites = ['up_proj'] as const
const options = { config, sites, rows: 3, minWidth: 1 } as const
const create = (patience = 1) => createAdapterRows({ ...options, patience })

const component = (value: number, layer = 1): RankOne => [
  {
    layer,
    module: 'up_proj',
    a: Float32Array.of(value, value + 1),
    b: Float32Array.of(value, value + 1, value + 2),
  },
]
const one = { component: component(10), scale: 1 }
const two = { component: component(20), scale: 2 }

function read(rows: ReturnType<typeof create>, count: number, layer: number) {
  const view = rows.view(count)
  const a = view.get(adapterA(layer, 'up_proj')) as Tensor
  const b = view.get(adapterB(layer, 'up_proj')) as Tensor
  return { dims: [a.dims, b.dims], a: [...a.data], b: [...b.data] }
}

describe('adapter rows', () => {
  it('hold a column of a and a row of b per component, the strength folded into b', () => {
    const rows = create()
    rows.write([[one, two], [two]])
    assert.deepEqual(read(rows, 2, 1), {
      dims: [
        [2, 2, 2],
        [2, 2, 3],
      ],
      a: [10, 20, 11, 21, /* row 1 */ 20, 0, 21, 0],
      b: [10, 11, 12, 40, 42, 44, /* row 1 */ 40, 42, 44, 0, 0, 0],
    })
    rows.release()
  })

  it('have no width on layers that no row changes, and zeros for the base beside an adapter', () => {
    const rows = create()
    rows.write([[one], []])
    assert.deepEqual(read(rows, 2, 0), {
      dims: [
        [2, 2, 0],
        [2, 0, 3],
      ],
      a: [],
      b: [],
    })
    assert.deepEqual(read(rows, 2, 1).a, [10, 11, 0, 0])
    assert.deepEqual(read(rows, 2, 1).b, [10, 11, 12, 0, 0, 0])
    rows.release()
  })

  it('of a graph for accelerators are never empty', () => {
    const target = {
      operators: 'accelerator',
      floats: 'float16',
      cacheFloats: 'float16',
      kernels: 'onnxruntime',
    } as const
    const rows = createAdapterRows({ ...options, target })
    rows.write([[two], []])
    const halves = (values: readonly number[]) => [...toHalves(values)]
    assert.deepEqual(read(rows, 2, 1), {
      dims: [
        [2, 2, 1],
        [2, 1, 3],
      ],
      a: halves([20, 21, 0, 0]),
      b: halves([40, 42, 44, 0, 0, 0]),
    })
    assert.deepEqual(read(rows, 2, 0).a, [0, 0, 0, 0])
    rows.release()
  })

  it('take the components of a layer together, wherever they stand in the row', () => {
    const rows = create()
    const other = { component: component(30, 0), scale: 1 }
    rows.write([[one, other], [other]])
    assert.deepEqual(read(rows, 2, 0).a, [30, 31, 30, 31])
    assert.deepEqual(read(rows, 2, 1).a, [10, 11, 0, 0])
    rows.release()
  })

  it('are laid out anew when the widest row changes, and say so', () => {
    const rows = create()
    assert.equal(rows.write([[one]]), true)
    assert.equal(rows.write([[one], [two], []]), false)
    assert.equal(rows.write([[one, two], [one]]), true)
    assert.deepEqual(read(rows, 2, 1).a, [10, 20, 11, 21, 10, 0, 11, 0])
    assert.equal(rows.write([[], [one]]), true)
    assert.deepEqual(read(rows, 2, 1).a, [0, 0, 10, 11])
    assert.equal(rows.write([[]]), true)
    assert.equal(rows.width, 0)
    rows.release()
  })

  it('are as wide as a power of two, and stay so for a while when less would do', () => {
    const rows = create(3)
    rows.write([[one, two, one]])
    assert.equal(rows.width, 4)
    assert.equal(rows.write([[one, two, one, two]]), false)
    assert.deepEqual(
      [1, 2].map(() => rows.write([[one]])),
      [false, false],
    )
    assert.deepEqual(read(rows, 1, 1).a, [10, 0, 0, 0, 11, 0, 0, 0])
    assert.equal(rows.write([[one, two, one]]), false)
    assert.deepEqual(
      [1, 2, 3].map(() => rows.write([[one]])),
      [false, false, true],
    )
    assert.equal(rows.width, 1)
    assert.deepEqual(read(rows, 1, 1).a, [10, 11])
    rows.release()
  })

  it('know that a row which was not in the batch has missed a new layout', () => {
    const rows = create()
    rows.write([[one], [one], [two]])
    rows.write([[one, two]])
    rows.write([[one, two], [one], [two]])
    assert.deepEqual(read(rows, 3, 1).a, [10, 20, 11, 21, 10, 0, 11, 0, 20, 0, 21, 0])
    rows.release()
  })

  it('are written when a row’s adapter or strength changes, and only then', () => {
    const rows = create()
    rows.write([[one], [two]])
    const { data } = rows.view(2).get(adapterB(1, 'up_proj')) as Tensor
    data[0] = -1
    data[3] = -1
    rows.write([[{ ...one }], [{ ...two, scale: 1 }]])
    assert.deepEqual([...data], [-1, 11, 12, 20, 21, 22])
    rows.release()
  })

  it('are at least as wide as asked where they are changed at all', () => {
    const rows = createAdapterRows({ ...options, minWidth: 2 })
    rows.write([[one]])
    assert.deepEqual(read(rows, 1, 1).a, [10, 0, 11, 0])
    assert.deepEqual(read(rows, 1, 0).a, [])
    rows.release()
  })

  it('refuse a component for a module that the graph does not adapt', () => {
    const rows = create()
    const stray: RankOne = [
      { layer: 0, module: 'q_proj', a: new Float32Array(2), b: new Float32Array(2) },
    ]
    assert.throws(() => rows.write([[{ component: stray, scale: 1 }]]), /no adapter site/)
    rows.release()
  })
})
