// The operator dutyfree::EmbedRows: rows of W as floats, by their numbers: ids int64 [...]; W, scales, zeros
// and mins as QuantizedMatMul has them, so that a tied lm_head reads the same bytes. Output: [..., K].

#include "operator.h"

typedef struct {
  Matrix w;
  const int64_t *ids;
  float *to;
} Work;

/** Where word i of row n lies, of `count` words of 32 bits a row. */
static size_t word_at(size_t n, size_t count, size_t i) {
  return (n / tile_columns * count + i) * tile_columns + n % tile_columns;
}

static int zero_of(const Matrix *w, size_t n, size_t b) {
  if (!w->zeros) return centre_of(w);
  const size_t bits = (size_t)w->bits, in_word = b * bits / 8 % 4, words = zero_bytes(w) / 4;
  const uint8_t byte = w->zeros[4 * word_at(n, words, b * bits / 32) + in_word];
  return bits == 8 ? byte : byte >> b % 2 * 4 & 15;
}

static void embed_one(void *data, size_t i) {
  const Work *const work = data;
  const Matrix *const w = &work->w;
  const size_t n = (size_t)work->ids[i], block = (size_t)w->block, bits = (size_t)w->bits;
  const size_t a_word = 32 / bits, words = block / a_word; // integers of a word; words of a block
  float *const to = work->to + i * w->inner;
  for (size_t b = 0; b < w->blocks; b++) {
    const size_t at = word_at(n, w->blocks, b);
    const float scale = w->scales[at];
    const int zero = zero_of(w, n, b);
    const size_t left = w->inner - b * block, count = left < block ? left : block;
    for (size_t k = 0; k < count; k++) {
      const size_t place = b * words + k / a_word;
      const uint8_t *const bytes = w->data + 4 * word_at(n, w->blocks * words, place);
      const size_t in_word = k % a_word;
      const int integer = bits == 8 ? bytes[in_word] : bytes[in_word / 2] >> in_word % 2 * 4 & 15;
      const float value = (float)(integer - zero) * scale;
      to[b * block + k] = w->mins ? value + w->mins[at] : value;
    }
  }
}

static Status *compute(void *data, Context *context) {
  const MatrixKernel *kernel = data;
  const Api api = kernel->api;
  Work work = {.w = kernel->shape};
  int64_t dims[max_dims + 1];
  size_t num_dims, count = 1;
  TRY(input_dims(api, context, 0, dims, &num_dims));
  for (size_t i = 0; i < num_dims; i++) count *= (size_t)dims[i];
  TRY(input_data(api, context, 0, (const void **)&work.ids));
  TRY(read_weights(api, context, &work.w));
  for (size_t i = 0; i < count; i++) {
    if (work.ids[i] < 0 || work.ids[i] >= (int64_t)work.w.outer) {
      return create_status(api, "EmbedRows: a row is none of W's");
    }
  }
  if (num_dims == max_dims) return create_status(api, "EmbedRows: ids have too many dimensions");
  dims[num_dims] = (int64_t)work.w.inner;
  TRY(output_data(api, context, 0, dims, num_dims + 1, (void **)&work.to));
  return count == 0 ? NULL : parallel_for(api, context, embed_one, count, &work);
}

static CONSTANT(const char *, name, "EmbedRows")
static CONSTANT(size_t, num_inputs, 5)
static CONSTANT(size_t, num_outputs, 1)
static ElementType input_type(const Operator *operator, size_t i) {
  (void)operator;
  return i == 0 ? int64 : i % 2 == 0 ? float32 : uint8;
}

const Operator embed_rows = {
    MATRIX_ANSWERS,
    .name = name,
    .input_type = input_type,
    .num_inputs = num_inputs,
    .num_outputs = num_outputs,
    .compute_or_fail = compute,
};
