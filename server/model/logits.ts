// Memory that runs of the decoder write their logits into: one position a row for steps, and several
// positions of one row for prompts whose logits are wanted.

import { logitBlock } from '../graph/embedding.ts'
import { allocateTensor, type Tensor } from '../runtime/session.ts'

/** Logits, [positions, vocab], and the largest of each block of them, [positions, blocks]. */
export interface LogitTensors {
  readonly values: Tensor<'float32'>
  readonly blockMax: Tensor<'float32'>
}

/** `rows`: most rows of a step. */
export function createLogitMemory(vocabSize: number, rows: number) {
  const numBlocks = vocabSize / logitBlock(vocabSize)
  const last = allocate(rows)
  /** Made when first asked for, as large as ever asked for. */
  let prompt: LogitTensors | undefined

  function allocate(positions: number): LogitTensors {
    return {
      values: allocateTensor('float32', [positions, vocabSize]),
      blockMax: allocateTensor('float32', [positions, numBlocks]),
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
      }
    },

    release(): void {
      release(last)
      if (prompt !== undefined) release(prompt)
    },
  }
}

function release({ values, blockMax }: LogitTensors): void {
  values.release()
  blockMax.release()
}
