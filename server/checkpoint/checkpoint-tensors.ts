// The tensors that a Qwen2 or Llama checkpoint must hold, by name and shape.

import type { ModelConfig } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'

const readableDtypes = new Set(['F32', 'F16', 'BF16', 'F64'])
// What some checkpoints carry and no graph needs.
const harmless = /(^|\.)(rotary_emb\.inv_freq|masked_bias)$/
const maxNamed = 5

/** Every tensor the graph reads → its shape. Linear weights are [out, in]. */
export function expectedTensors(config: ModelConfig): Map<string, readonly number[]> {
  const { hiddenSize, intermediateSize, vocabSize, headDim } = config
  const queries = config.numHeads * headDim
  const keys = config.numKvHeads * headDim
  const shapes = new Map<string, readonly number[]>()

  function linear(name: string, out: number, input: number, hasBias: boolean) {
    shapes.set(`${name}.weight`, [out, input])
    if (hasBias) shapes.set(`${name}.bias`, [out])
  }

  shapes.set('model.embed_tokens.weight', [vocabSize, hiddenSize])
  for (let layer = 0; layer < config.numLayers; layer++) {
    const at = `model.layers.${layer}`
    shapes.set(`${at}.input_layernorm.weight`, [hiddenSize])
    linear(`${at}.self_attn.q_proj`, queries, hiddenSize, config.qkvBias)
    linear(`${at}.self_attn.k_proj`, keys, hiddenSize, config.qkvBias)
    linear(`${at}.self_attn.v_proj`, keys, hiddenSize, config.qkvBias)
    linear(`${at}.self_attn.o_proj`, hiddenSize, queries, config.outputBias)
    shapes.set(`${at}.post_attention_layernorm.weight`, [hiddenSize])
    linear(`${at}.mlp.gate_proj`, intermediateSize, hiddenSize, config.mlpBias)
    linear(`${at}.mlp.up_proj`, intermediateSize, hiddenSize, config.mlpBias)
    linear(`${at}.mlp.down_proj`, hiddenSize, intermediateSize, config.mlpBias)
  }
  shapes.set('model.norm.weight', [hiddenSize])
  if (!config.tieWordEmbeddings) shapes.set('lm_head.weight', [vocabSize, hiddenSize])
  return shapes
}

/** Checks what the files hold against the configuration; returns the number of parameters. */
export function checkTensors(
  config: ModelConfig,
  found: ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[] }>,
): number {
  const expected = expectedTensors(config)
  const problems: string[] = []
  const unreadable: string[] = []
  let numParameters = 0
  for (const [name, shape] of expected) {
    numParameters += shape.reduce((product, size) => product * size, 1)
    const tensor = found.get(name)
    if (!tensor) problems.push(`${name} is missing`)
    else if (tensor.shape.join() !== shape.join()) {
      problems.push(`${name} is [${tensor.shape}], config.json says [${shape}]`)
    } else if (!readableDtypes.has(tensor.dtype)) {
      unreadable.push(`${name} is ${tensor.dtype}; F32, F16, BF16 or F64 is needed`)
    }
  }
  if (problems.length > 0) throw new ServerError('invalid_checkpoint', list(problems))
  if (unreadable.length > 0) throw new ServerError('unsupported_checkpoint', list(unreadable))

  const extra = [...found.keys()].filter(
    (name) => !expected.has(name) && !harmless.test(name) && name !== 'lm_head.weight',
  )
  if (extra.length > 0) {
    throw new ServerError(
      'unsupported_checkpoint',
      list(extra.map((name) => `${JSON.stringify(name)} is no tensor of ${config.architecture}`)),
    )
  }
  return numParameters
}

function list(problems: readonly string[]): string {
  const more = problems.length - maxNamed
  const rest = more > 0 ? `; and ${more} more` : ''
  return `Weights: ${problems.slice(0, maxNamed).join('; ')}${rest}.`
}
