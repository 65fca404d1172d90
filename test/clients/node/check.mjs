// What a client's program tells of its checks: one line of JSON each.

import assert from 'node:assert/strict'

export const { DUTYFREE_URL: url, DUTYFREE_MODEL: model } = process.env
export const question = 'A shop fills 2 bags, each with 62 books. How many books are there now?'
export const answer = 'The answer is 124.'

/** Whatever it throws is why it failed. */
export async function check(name, run) {
  try {
    await run()
    console.log(JSON.stringify({ check: name, ok: true }))
  } catch (error) {
    const why = `${error?.name}: ${error?.message}`.replaceAll('\n', ' ').slice(0, 300)
    console.log(JSON.stringify({ check: name, ok: false, why }))
  }
}

export function isWeather({ sunny, unit }) {
  assert.ok(
    typeof sunny === 'boolean' && ['C', 'F'].includes(unit),
    JSON.stringify({ sunny, unit }),
  )
}
