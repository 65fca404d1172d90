// Requests alternate between the base and every adapter the server lists, so that neighbours in one
// batch differ. Each answer must attest the adapter that was asked for, and must say, letter for letter,
// what the same request said when nothing else ran: adapters of neighbours leave no trace.
//   npm run loadtest -- adapter-switch [--url http://127.0.0.1:8000] [--rate 2] [--duration 20s]

import { check } from 'k6'
import exec from 'k6/execution'
import { chat, getJson, openModel, prompts, thresholds } from './chat.js'
import { writeReport } from './report.js'

const namings = ['query', 'body', 'model']

export const options = { scenarios: { adapter_switch: openModel }, thresholds }

/** What every target says to every prompt, one request at a time. */
export function setup() {
  getJson('/health/ready')
  const model = getJson('/v1/models').data[0].id
  const adapters = getJson('/v1/adapters').data.filter(({ state }) => state !== 'invalid')
  const targets = ['none', ...adapters.map(({ id }) => id)]
  if (targets.length === 1) console.warn('the server has no adapters: only the base is asked')
  const alone = targets.map((id) =>
    prompts.map((prompt) => {
      const adapter = { id, naming: 'query' }
      return chat({ model, prompt, stream: false, adapter, kind: 'alone' }).text
    }),
  )
  const texts = new Set(alone.map((answers) => answers.join('\n')))
  console.log(`targets: ${targets.join(', ')}; ${texts.size} different sets of answers`)
  return { model, targets, alone }
}

export default function ask({ model, targets, alone }) {
  // Counted so that every target meets every prompt, every naming, and both forms of answer.
  const turn = exec.scenario.iterationInTest
  const round = Math.floor(turn / targets.length)
  const target = turn % targets.length
  const id = targets[target]
  const promptIndex = round % prompts.length
  const { response, text, applied } = chat({
    model,
    prompt: prompts[promptIndex],
    stream: (turn + round) % 2 === 0,
    adapter: { id, naming: namings[Math.floor(round / 2) % namings.length] },
  })
  check(response, {
    'x-adapter names what was asked': () => isHeaderOf(id, response.headers['X-Adapter']),
    'body adapter names what was asked': () => isFieldOf(id, applied),
    'header and body agree': () => response.headers['X-Adapter'] === headerOf(applied),
    'the same text as alone': () => text === alone[target][promptIndex],
  })
}

const isHeaderOf = (id, header) =>
  id === 'none' ? header === 'none' : header?.startsWith(`${id}@`) && !header.includes(',')

const isFieldOf = (id, applied) =>
  id === 'none' ? applied?.length === 0 : applied?.length === 1 && applied[0].id === id

const headerOf = (applied) =>
  applied?.length === 0
    ? 'none'
    : applied?.map(({ id, digest, scale }) => `${id}@${digest};scale=${scale}`).join(', ')

export const handleSummary = (data) => writeReport('adapter-switch', data)
