// Memory that runs of the decoder write their logits into: one position a row for steps, and several
// positions of one row for prompts whose logits are wanted. What a probe tells of them goes with them.

import { logitBlock } from '../graph/embedding.ts'
import { allocateTensor, type Tensor } from '../runtime/session.ts'

export interface LogitTensors {
  /** [positions, vocab] */
  readonly values: Tensor<'float32'>
  /** The largest of each block of the vocabulary, [positions, blocks]. */
  readonly blockMax: Tensor<'float32'>
  /** [positions]; null: there is no probe. */
  readonly probe: Tensor<'float32'> | null
}

export interface LogitMemoryOptions {
  readonly vocabSize: number
  /** Most rows of a step. */
  readonly rows: number
  readonly hasProbe: boolean
}

export function createLogitMemory({ vocabSize, rows, hasProbe }: LogitMemoryOptions) {
  const numBlocks = vocabSize / logitBlock(vocabSize)
  const last = allocate(rows)
  /** Made when first asked for, as large as ever asked for. */
  let prompt: LogitTensors | undefined

  function allocate(positions: number): LogitTensors {
    return {
      values: allocateTensor('float32', [positions, vocabSize]),
      blockMax: allocateTensor('float32', [positions, numBlocks]),
      probe: hasProbe ? allocateTensor('float32', [positions]) : null,
    }
  }

  return {
    numBlocks,
    /** Of the last token of each row. */
    last,

    /** For the last `positions` tokens of one row. */
    ofPrompt(positions: number): LogitTensors {
      if (positions === 1) return last
      if (prompt === undefined || (prompt.values.dims[0] ?? 0) < positions) {
        if (prompt !== undefined) release(prompt)
        prompt = allocate(positions)
      }
      return prompt
    },

    /** As a run writes them, [count, positions, …]. */
    view(of: LogitTensors, count: number, positions: number): LogitTensors {
      return {
        values: of.values.view([count, positions, vocabSize]),
        blockMax: of.blockMax.view([count, positions, numBlocks]),
        probe: of.probe?.view([count, positions]) ?? null,
      }
    },

    release(): void {
      release(last)
      if (prompt !== undefined) release(prompt)
    },
  }
}

function release({ values, blockMax, probe }: LogitTensors): void {
  for (const tensor of [values, blockMax, probe]) tensor?.release()
}
