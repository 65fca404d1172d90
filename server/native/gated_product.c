// The operator dutyfree::GatedProduct: QuantizedMatMul and GatedUp in one, whose product of gate and up goes
// through memory no more. Inputs: x [rows, tokens, K]; W, scales, zeros and mins of [gate; up], N = 2 · outer,
// as QuantizedMatMul has them; then up's a and b and gate's, as GatedUp has them. Output:
// silu(gate + (x a_gate) b_gate) · (up + (x a_up) b_up), [rows, tokens, outer], the same to the last bit.

#include <stdlib.h>

#include "site.h"

enum {
  /** Numbers of gate, and of up, that are multiplied before they meet: they stay in the second cache. */
  met_numbers = 16 << 10,
  /** Tokens of them, at most: whole groups. */
  met_tokens = 512,
  /** Columns of them, at least. */
  met_columns = met_numbers / met_tokens,
};

typedef struct {
  Matrix w;
  RoundedRows *groups;
  size_t rows, tokens, num_tokens, outer; // tokens: of a row
  size_t columns_a_piece;
  const float *x;
  Site up, gate;
  float *to;
} Work;

/** Adds the adapters of tokens [token, token + count) to their columns [first, last). */
static void adapt(const Work *work, const Site *site, size_t token, size_t count, Place columns,
                  size_t first, size_t last) {
  if (site->width == 0) return;
  for (size_t done = 0; done < count;) {
    const size_t row = (token + done) / work->tokens, end = (row + 1) * work->tokens;
    const size_t of_row = is_common(site) ? count - done : end - token - done;
    const size_t together = of_row < count - done ? of_row : count - done;
    const Components of = components_of(site, row);
    const Place at = {columns.at + done * columns.step, columns.step};
    add_components(&of, together, site->activations + (token + done) * site->width,
                   (Columns){at.at, at.step}, at, first, last);
    done += together;
  }
}

/** Fetches a site's columns [first, last), which are needed when those of W have been multiplied. */
static void fetch_site(const Site *site, size_t first, size_t last) {
  enum { floats_a_line = 16 };
  for (size_t i = 0; i < site->rows * site->width; i++) {
    const float *const b = site->b + i * site->outer;
    for (size_t c = first; c < last; c += floats_a_line) __builtin_prefetch(b + c, 0, 2);
  }
}

/** Columns [first, last) of all tokens. */
static void meet(const Work *work, size_t first, size_t last) {
  const size_t outer = work->outer;
  float room[2][met_numbers] __attribute__((aligned(64)));
  const Place gate = {room[0], last - first}, up = {room[1], last - first};
  fetch_site(&work->gate, first, last);
  fetch_site(&work->up, first, last);
  for (size_t token = 0; token < work->num_tokens; token += met_tokens) {
    const size_t left = work->num_tokens - token, count = left < met_tokens ? left : met_tokens;
    const RoundedRows *const groups = work->groups + token / GROUP_ROWS;
    multiply(&work->w, groups, count_groups(count), first, last, gate);
    multiply(&work->w, groups, count_groups(count), outer + first, outer + last, up);
    adapt(work, &work->gate, token, count, gate, first, last);
    adapt(work, &work->up, token, count, up, first, last);
    for (size_t t = 0; t < count; t++) {
      gate_values(gate.at + t * gate.step, up.at + t * up.step,
                  work->to + (token + t) * outer + first, last - first);
    }
  }
}

static void meet_piece(void *data, size_t piece) {
  const Work *work = data;
  const size_t from = piece * work->columns_a_piece, end = from + work->columns_a_piece;
  const size_t last = end < work->outer ? end : work->outer;
  const size_t tokens = work->num_tokens < met_tokens ? work->num_tokens : met_tokens;
  const size_t columns = met_numbers / tokens / met_columns * met_columns;
  for (size_t first = from; first < last; first += columns) {
    meet(work, first, first + columns < last ? first + columns : last);
  }
}

static Status *run(Api api, Context *context, Work *work, float *activations) {
  TRY(round_rows(api, context, &work->w, work->x, work->num_tokens, work->groups));
  TRY(activate_sites(api, context, &work->up, &work->gate, work->x, work->rows, work->tokens,
                     activations));
  work->columns_a_piece = columns_a_piece(work->outer, met_columns);
  const size_t pieces = (work->outer + work->columns_a_piece - 1) / work->columns_a_piece;
  return parallel_for(api, context, meet_piece, pieces, work);
}

/** Shapes, memory and weights; all but the memory that the work itself takes. */
static Status *read_work(Api api, Context *context, Work *work) {
  int64_t dims[max_dims];
  size_t num_dims, num_inputs;
  TRY(input_dims(api, context, 0, dims, &num_dims));
  if (num_dims != 3 || dims[2] != (int64_t)work->w.inner || work->w.outer % (2 * tile_columns)) {
    return create_status(api, "GatedProduct: x is [rows, tokens, K], N a multiple of 32");
  }
  work->rows = (size_t)dims[0];
  work->tokens = (size_t)dims[1];
  work->num_tokens = work->rows * work->tokens;
  work->outer = work->w.outer / 2;
  work->up.inner = work->gate.inner = work->w.inner;
  work->up.outer = work->gate.outer = work->outer;
  TRY(input_data(api, context, 0, (const void **)&work->x));
  TRY(read_weights(api, context, &work->w));
  TRY(get_num_inputs(api, context, &num_inputs));
  if (num_inputs > 6) TRY(read_site(api, context, 5, work->rows, &work->up));
  if (num_inputs > 8) TRY(read_site(api, context, 7, work->rows, &work->gate));
  dims[2] = (int64_t)work->outer;
  return output_data(api, context, 0, dims, 3, (void **)&work->to);
}

static Status *compute(void *data, Context *context) {
  const MatrixKernel *kernel = data;
  const Api api = kernel->api;
  Work work = {.w = kernel->shape};
  TRY(read_work(api, context, &work));
  if (work.num_tokens == 0) return NULL;
  const size_t width = work.up.width + work.gate.width;
  float *const activations = malloc((work.num_tokens * width + 1) * sizeof(float));
  work.groups = create_groups(&work.w, work.num_tokens);
  Status *failure;
  if (activations && work.groups) {
    failure = run(api, context, &work, activations);
  } else {
    failure = create_status(api, "GatedProduct: out of memory");
  }
  free(work.groups);
  free(activations);
  return failure;
}

static CONSTANT(const char *, name, "GatedProduct")
static CONSTANT(size_t, num_inputs, 9)
static CONSTANT(size_t, num_outputs, 1)
static ElementType input_type(const Operator *operator, size_t i) {
  (void)operator;
  return i == 1 || i == 3 ? uint8 : float32;
}

const Operator gated_product = {
    MATRIX_ANSWERS,
    .name = name,
    .input_type = input_type,
    .num_inputs = num_inputs,
    .num_outputs = num_outputs,
    .compute_or_fail = compute,
};
