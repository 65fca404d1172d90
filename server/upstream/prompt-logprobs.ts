// The log-probabilities of a prompt: a call of its own, since a stream tells none.

import type { Sequence } from '../loop/sequence.ts'
import type { RankedPlace } from '../sampling/logprobs.ts'
import { promptBody } from './completion-request.ts'
import { requireSameModel } from './failure.ts'
import type { Pool } from './pool.ts'
import { parseChunk } from './wire.ts'

/** Of each token after the first. Rejects as `Pool.use`. */
export async function readPrompt(
  pool: Pool,
  { promptTokens: tokens, request, segments }: Sequence,
  signal: AbortSignal,
): Promise<readonly RankedPlace[]> {
  const numTop = request.promptLogprobs ?? 0
  const { client } = request.turn
  const { value, release } = await pool.use(segments.at(-1)!, client, signal, ({ transport }) => {
    return async (model, signal) => {
      const body = promptBody(model, tokens, numTop)
      const text = await transport.text({ method: 'POST', path: '/v1/completions', body, signal })
      const chunk = parseChunk(text, null, { prompt: { tokens, numTop } })
      requireSameModel(chunk.model, model)
      return chunk.prompt!
    }
  })
  release()
  return value
}
