// The floats that a model is computed, cached and served in, and what users call them.

export type FloatType = 'float32' | 'float16'
export const floatBytes = { float32: 4, float16: 2 } as const satisfies Record<FloatType, number>

/** In flags, in names of weight formats and in replies. */
export type FloatName = 'fp32' | 'fp16'
export const floatNames = { float32: 'fp32', float16: 'fp16' } as const satisfies Record<
  FloatType,
  FloatName
>
export const floatTypeOf = (name: FloatName): FloatType =>
  name === floatNames.float32 ? 'float32' : 'float16'
