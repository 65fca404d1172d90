// Does the server answer, streaming and not, at a gentle rate?
//   npm run loadtest -- smoke [--url http://127.0.0.1:8000] [--rate 2] [--duration 20s]

import exec from 'k6/execution'
import { chat, getJson, openModel, prompts, thresholds } from './chat.js'
import { writeReport } from './report.js'

export const options = { scenarios: { smoke: openModel }, thresholds }

export function setup() {
  getJson('/health/ready')
  return { model: getJson('/v1/models').data[0].id }
}

export default function ask({ model }) {
  const turn = exec.scenario.iterationInTest
  chat({ model, prompt: prompts[turn % prompts.length], stream: turn % 2 === 0 })
}

export const handleSummary = (data) => writeReport('smoke', data)
