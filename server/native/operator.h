// What our operators share.

#ifndef DUTYFREE_OPERATOR_H
#define DUTYFREE_OPERATOR_H

#include "onnxruntime.h"
#include "product.h"

/** Passes a failure on. */
#define TRY(expression)                   \
  do {                                    \
    Status *const failure = (expression); \
    if (failure) return failure;          \
  } while (0)

enum { max_dims = 8 };

extern const Operator quantized_mat_mul, gated_product, cached_attention, cached_attention_halves, add_adapters,
    gated_up, embed_rows;

/** The memory of an input; NULL where it is left out. */
Status *input_data(Api api, const Context *context, size_t i, const void **data);
/** The shape of an input that has 1 to max_dims dimensions. */
Status *input_dims(Api api, const Context *context, size_t i, int64_t *dims, size_t *num_dims);
/** The memory of an output of that shape. */
Status *output_data(Api api, Context *context, size_t i, const int64_t *dims, size_t num_dims,
                    void **data);

/** Of an operator that reads a matrix: what its attributes K, N, bits and block_size say. */
typedef struct {
  Api api;
  Matrix shape; // no data
} MatrixKernel;
Status *create_matrix_kernel(const Operator *operator, Api api, const Info *info, void **made);
void destroy_matrix_kernel(void *kernel);
/** From input 3 on there may be none. */
Presence matrix_presence(const Operator *operator, size_t i);
/** Where its parts lie: inputs 1 to 4 are W, scales, and zeros or mins where there are any. */
Status *read_weights(Api api, const Context *context, Matrix *w);

enum {
  /** Pieces of the columns that threads take one after the other: enough to even out a slow one. */
  max_pieces = 32,
};
/** Columns of such a piece: a multiple of `step`. */
static inline size_t columns_a_piece(size_t columns, size_t step) {
  const size_t steps = (columns + step - 1) / step;
  return (steps + max_pieces - 1) / max_pieces * step;
}

/** Rounds rows x [rows, K] into groups that have their places. */
Status *round_rows(Api api, const Context *context, const Matrix *w, const float *x, size_t rows,
                   RoundedRows *groups);

/** Defines a function that answers the same for whichever operator it is asked. */
#define CONSTANT(type, name, value)     \
  type name(const Operator *operator) { \
    (void)operator;                     \
    return value;                       \
  }

/** Answers that are the same for each of our operators. */
const char *on_cpu(const Operator *operator);
int default_memory(const Operator *operator, size_t i);
int version_one(const Operator *operator);
Presence is_required(const Operator *operator, size_t i);
ElementType is_float(const Operator *operator, size_t i);

/** The part of a table of answers that all our operators share. */
#define SHARED_ANSWERS                                                              \
  .version = api_version, .provider = on_cpu, .output_presence = is_required,       \
  .input_memory = default_memory, .first_version = version_one, .last_version = version_one

/** The same of operators that read a matrix. */
#define MATRIX_ANSWERS                                                                    \
  SHARED_ANSWERS, .output_type = is_float, .destroy = destroy_matrix_kernel,              \
  .input_presence = matrix_presence, .create_or_fail = create_matrix_kernel

#endif
