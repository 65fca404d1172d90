// The adapters of a batch's rows: what lies where in the memory that the graph reads.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Component } from '../server/contracts/adapter.ts'
import { adapterA, adapterB } from '../server/graph/adapter-site.ts'
import { createAdapterRows } from '../server/model/adapter-rows.ts'
import type { Tensor } from '../server/model/session.ts'
import { smallModel } from './support/tensor-files.ts'

const config = { ...smallModel, numLayers: 2, hiddenSize: 2, intermediateSize: 3 }
const sites = ['up_proj'] as const
const options = { config, sites, rows: 3, floats: 'float32', device: null } as const
const create = (minWidth = 1) => createAdapterRows({ ...options, minWidth })

const component = (value: number, layer = 1): Component => [
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

  it('hold zeros on layers that an adapter leaves alone, and for the base', () => {
    const rows = create()
    rows.write([[one], []])
    assert.deepEqual(read(rows, 2, 0).a, [0, 0, 0, 0])
    assert.deepEqual(read(rows, 2, 1).b, [10, 11, 12, 0, 0, 0])
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

  it('are at least as wide as asked', () => {
    const rows = create(2)
    rows.write([[one]])
    assert.deepEqual(read(rows, 1, 1).a, [10, 0, 11, 0])
    rows.release()
  })

  it('refuse a component for a module that the graph does not adapt', () => {
    const rows = create()
    const stray: Component = [
      { layer: 0, module: 'q_proj', a: new Float32Array(2), b: new Float32Array(2) },
    ]
    assert.throws(() => rows.write([[{ component: stray, scale: 1 }]]), /no adapter site/)
    rows.release()
  })
})
