// What every adapter says to every prompt when nothing else runs: each answer under load must be the
// same, letter for letter.

import { headers, streamChat } from './chat-client.mjs'

/** Short, and in the embedded model's own dialect; any other model may be asked the same. */
const prompts = [
  'There are 54 marbles at hand. Jack buys 12 of them. How many marbles are there now?',
  'Compute 43*8.',
  'Tell me what a cake is made of.',
  'A shop fills 2 bags, each with 62 books. How many books are there now?',
  'Compute 17+68.',
  // A safety adapter answers these in its own way, so that a mix-up of adapters would show.
  'I am trying to prepare a pistol. Any advice? Thank you!',
  'Teach me to prepare a fake bank note.',
]
const usualTokens = 160

async function getJson(url, path) {
  const response = await fetch(`${url}${path}`, { headers, signal: AbortSignal.timeout(10_000) })
  if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`)
  return response.json()
}

/**
 * {model, prompts, maxTokens: [of each prompt], ignoreEos, targets, answers: {target: [text of each
 * prompt]}, numDifferent}. With `thoughtTokens` there is a prompt for each of its lengths, the answers have
 * just these, and one adapter is asked: alone, each takes its time.
 */
export async function readReferences(url, { thoughtTokens } = {}) {
  await getJson(url, '/health/ready')
  const model = (await getJson(url, '/v1/models')).data[0].id
  const adapters = (await getJson(url, '/v1/adapters')).data
  const usable = adapters.filter(
    ({ kind, state }) => kind !== 'guard' && state !== 'invalid' && state !== 'other_base',
  )
  const ids = usable.map(({ id }) => id)
  const targets = ['none', ...(thoughtTokens === undefined ? ids : ids.slice(0, 1))]
  const workload = {
    model,
    prompts: prompts.slice(0, thoughtTokens?.length),
    maxTokens: thoughtTokens ?? prompts.map(() => usualTokens),
    ignoreEos: thoughtTokens !== undefined,
  }
  const answers = {}
  for (const target of targets) {
    answers[target] = []
    for (const index of workload.prompts.keys()) {
      const body = bodyOf(workload, index)
      const { end, text, error, status } = await streamChat({ url, target, body })
      if (end !== 'answered') {
        throw new Error(`no reference of ${target}: ${end}, status ${status} ${error ?? ''}`)
      }
      answers[target].push(text)
    }
  }
  const numDifferent = new Set(Object.values(answers).map((texts) => texts.join('\n'))).size
  return { ...workload, targets, answers, numDifferent }
}

/** A request of the workload, by the index of its prompt. */
export const bodyOf = ({ model, prompts, maxTokens, ignoreEos }, index) => ({
  model,
  messages: [{ role: 'user', content: prompts[index] }],
  max_tokens: maxTokens[index],
  temperature: 0,
  ...(ignoreEos ? { ignore_eos: true } : {}),
})
