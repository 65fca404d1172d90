// The operator dutyfree::QuantizedMatMul for ONNX Runtime: inputs and attributes of its own MatMulNBits
// (x float32 [..., K]; W uint8; scales float32; zeros uint8 where there are any), but with rows of W side
// by side, and two inputs of our own. Instead of zeros there may be mins float32, which are added to what
// the integers stand for. An int64 input says which columns are wanted, the first negative: all; the others
// are left as they are in memory.

#include <stdlib.h>

#include "operator.h"

/** From so many numbers on the threads share the rounding. */
enum { shared_rounding = 16 << 10 };

typedef struct {
  Matrix w;
  const float *x;
  float *y;
  size_t rows;
  RoundedRows *groups;
  size_t num_groups;
  size_t columns_a_piece;
  const int64_t *wanted; // columns; NULL: all
  size_t num_wanted;
} Work;

/** Rows that are to be rounded. */
typedef struct {
  const Matrix *w;
  const float *x;
  RoundedRows *groups;
} Rounding;

static void round_one(void *data, size_t row) {
  const Rounding *of = data;
  const float *x = of->x + row * of->w->inner;
  round_row(of->w, x, (int)(row % GROUP_ROWS), of->groups + row / GROUP_ROWS);
}

Status *round_rows(Api api, const Context *context, const Matrix *w, const float *x, size_t rows,
                   RoundedRows *groups) {
  Rounding of = {w, x, groups};
  if (rows * w->inner >= shared_rounding) return parallel_for(api, context, round_one, rows, &of);
  for (size_t row = 0; row < rows; row++) round_one(&of, row);
  return NULL;
}

static Place place_of(const Work *work, size_t column) {
  return (Place){work->y + column, work->w.outer};
}

static void multiply_piece(void *data, size_t piece) {
  const Work *work = data;
  const size_t first = piece * work->columns_a_piece;
  const size_t end = first + work->columns_a_piece;
  const size_t last = end < work->w.outer ? end : work->w.outer;
  multiply(&work->w, work->groups, work->num_groups, first, last, place_of(work, first));
}

/** The columns that are computed with a wanted one, so that its bits are those of a whole product. */
static void multiply_wanted(void *data, size_t i) {
  const Work *work = data;
  const size_t first = (size_t)work->wanted[i] / tile_columns * tile_columns;
  const size_t end = first + tile_columns;
  const size_t last = end < work->w.outer ? end : work->w.outer;
  multiply(&work->w, work->groups, work->num_groups, first, last, place_of(work, first));
}

static Status *run(const MatrixKernel *kernel, Context *context, Work *work) {
  const Api api = kernel->api;
  TRY(round_rows(api, context, &work->w, work->x, work->rows, work->groups));
  if (work->wanted) return parallel_for(api, context, multiply_wanted, work->num_wanted, work);
  work->columns_a_piece = columns_a_piece(work->w.outer, tile_columns);
  const size_t pieces = (work->w.outer + work->columns_a_piece - 1) / work->columns_a_piece;
  return parallel_for(api, context, multiply_piece, pieces, work);
}

/** Reads which columns are wanted, from input 5. */
static Status *read_wanted(Api api, const Context *context, Work *work) {
  int64_t dims[max_dims];
  size_t num_dims;
  const int64_t *wanted;
  TRY(input_data(api, context, 5, (const void **)&wanted));
  if (!wanted) return NULL;
  TRY(input_dims(api, context, 5, dims, &num_dims));
  if (dims[0] == 0 || wanted[0] < 0) return NULL;
  for (int64_t i = 0; i < dims[0]; i++) {
    if (wanted[i] < 0 || wanted[i] >= (int64_t)work->w.outer) {
      return create_status(api, "QuantizedMatMul: a wanted column is none of W's");
    }
  }
  work->wanted = wanted;
  work->num_wanted = (size_t)dims[0];
  return NULL;
}

static Status *compute(void *data, Context *context) {
  const MatrixKernel *kernel = data;
  const Api api = kernel->api;
  Work work = {.w = kernel->shape, .rows = 1};
  int64_t dims[max_dims];
  size_t num_dims, num_inputs;
  TRY(input_dims(api, context, 0, dims, &num_dims));
  if (dims[num_dims - 1] != (int64_t)work.w.inner) {
    return create_status(api, "QuantizedMatMul: the last dimension of x is not K");
  }
  for (size_t i = 0; i + 1 < num_dims; i++) work.rows *= (size_t)dims[i];
  TRY(input_data(api, context, 0, (const void **)&work.x));
  TRY(read_weights(api, context, &work.w));
  TRY(get_num_inputs(api, context, &num_inputs));
  if (num_inputs > 5) TRY(read_wanted(api, context, &work));
  dims[num_dims - 1] = (int64_t)work.w.outer;
  TRY(output_data(api, context, 0, dims, num_dims, (void **)&work.y));
  if (work.rows == 0) return NULL;

  work.num_groups = count_groups(work.rows);
  work.groups = create_groups(&work.w, work.rows);
  Status *failure;
  if (work.groups) {
    failure = run(kernel, context, &work);
  } else {
    failure = create_status(api, "QuantizedMatMul: out of memory");
  }
  free(work.groups);
  return failure;
}

static CONSTANT(const char *, name, "QuantizedMatMul")
static CONSTANT(size_t, num_inputs, 6)
static CONSTANT(size_t, num_outputs, 1)
static ElementType input_type(const Operator *operator, size_t i) {
  (void)operator;
  if (i == 5) return int64;
  return i % 2 == 0 ? float32 : uint8;
}

const Operator quantized_mat_mul = {
    MATRIX_ANSWERS,
    .name = name,
    .input_type = input_type,
    .num_inputs = num_inputs,
    .num_outputs = num_outputs,
    .compute_or_fail = compute,
};
