// Two operators where adapters meet a linear module's output. Each row brings its own components: a
// [rows, inner, width], b [rows, width, outer]; of width 0 nothing is read or added.
//
//   dutyfree::AddAdapters(base [rows, tokens, outer], x [rows, tokens, inner], a, b) = base + (x a) b
//   dutyfree::GatedUp(gate_up [rows, tokens, 2 · outer] (, x, up's a, b (, gate's a, b)))
//       = silu(gate + (x a_gate) b_gate) · (up + (x a_up) b_up), [rows, tokens, outer]

#include <stdlib.h>

#include "adapter.h"
#include "operator.h"

typedef struct {
  Api api;
} Kernel;

/** Components of all rows; width 0 where the inputs are left out. */
typedef struct {
  const float *a, *b;
  size_t width;
} Site;

typedef struct {
  size_t tokens, inner, outer; // tokens of a row
  size_t pieces, columns;      // of a token's output
  const float *base, *x;
  Site up, gate;
  float *to;
} Work;

static Status *create_kernel(const Operator *operator, Api api, const Info *info, void **made) {
  (void)operator, (void)info;
  Kernel *kernel = malloc(sizeof *kernel);
  if (!kernel) return create_status(api, "out of memory");
  kernel->api = api;
  *made = kernel;
  return NULL;
}

static void destroy_kernel(void *kernel) { free(kernel); }

static Components components_of(const Work *work, const Site *site, size_t row) {
  return (Components){
      .a = site->a + row * work->inner * site->width,
      .b = site->b + row * site->width * work->outer,
      .inner = work->inner,
      .width = site->width,
      .outer = work->outer,
  };
}

/** A token's components of a site and what its x gives through them. */
typedef struct {
  Components of;
  float activations[max_width];
} Active;

static void activate_site(const Work *work, const Site *site, size_t token, Active *active) {
  active->of = components_of(work, site, token / work->tokens);
  if (site->width > 0) {
    activate(&active->of, work->x + token * work->inner, active->activations);
  }
}

/** The columns of one piece of a token's output. */
typedef struct {
  size_t token, first, last;
} Piece;

static Piece piece_of(const Work *work, size_t index) {
  const size_t first = index % work->pieces * work->columns, end = first + work->columns;
  return (Piece){index / work->pieces, first, end < work->outer ? end : work->outer};
}

static void add_piece(void *data, size_t index) {
  const Work *work = data;
  const Piece piece = piece_of(work, index);
  const size_t at = piece.token * work->outer + piece.first;
  Active up;
  activate_site(work, &work->up, piece.token, &up);
  add_components(&up.of, up.activations, work->base + at, work->to + at, piece.first, piece.last);
}

/** Columns [first, last) with their adapters: `base` itself where there are none. */
static const float *adapted(const Active *active, const float *base, float *room, size_t first,
                            size_t last) {
  if (active->of.width == 0) return base;
  add_components(&active->of, active->activations, base, room, first, last);
  return room;
}

static void gate_piece(void *data, size_t index) {
  enum { at_once = 512 }; // columns that stay in the first cache
  const Work *work = data;
  const Piece piece = piece_of(work, index);
  const float *gate = work->base + 2 * piece.token * work->outer, *up = gate + work->outer;
  float *to = work->to + piece.token * work->outer;
  float rooms[2][at_once];
  Active of_gate, of_up;
  activate_site(work, &work->gate, piece.token, &of_gate);
  activate_site(work, &work->up, piece.token, &of_up);
  for (size_t from = piece.first; from < piece.last; from += at_once) {
    const size_t until = from + at_once < piece.last ? from + at_once : piece.last;
    const float *g = adapted(&of_gate, gate + from, rooms[0], from, until);
    const float *u = adapted(&of_up, up + from, rooms[1], from, until);
    gate_values(g, u, to + from, until - from);
  }
}

/** Reads a and b from inputs `first` and `first + 1`. */
static Status *read_site(Api api, const Context *context, size_t first, Site *site) {
  int64_t dims[max_dims];
  size_t num_dims;
  TRY(input_data(api, context, first, (const void **)&site->a));
  TRY(input_data(api, context, first + 1, (const void **)&site->b));
  site->width = 0;
  const Value *a;
  TRY(get_input(api, context, first, &a));
  if (!a) return NULL;
  TRY(input_dims(api, context, first, dims, &num_dims));
  site->width = (size_t)dims[num_dims - 1];
  if (site->width > max_width) return create_status(api, "adapters of more than 64 components");
  return NULL;
}

/** Shapes and memory of base and x; `parts` outputs lie side by side in base. */
static Status *read_tokens(Api api, Context *context, size_t parts, size_t *rows, Work *work) {
  int64_t dims[max_dims], x_dims[max_dims];
  size_t num_dims;
  TRY(input_dims(api, context, 0, dims, &num_dims));
  if (num_dims != 3) return create_status(api, "adapters: base must be [rows, tokens, outer]");
  *rows = (size_t)dims[0];
  work->tokens = (size_t)dims[1];
  work->outer = (size_t)dims[2] / parts;
  TRY(input_data(api, context, 0, (const void **)&work->base));
  TRY(input_data(api, context, 1, (const void **)&work->x));
  if (work->x) {
    TRY(input_dims(api, context, 1, x_dims, &num_dims));
    work->inner = (size_t)x_dims[num_dims - 1];
  }
  dims[2] = (int64_t)work->outer;
  return output_data(api, context, 0, dims, 3, (void **)&work->to);
}

/** A few pieces for each thread, of whole vectors. */
static Status *share(Api api, const Context *context, void (*task)(void *, size_t), size_t rows,
                     Work *work) {
  const size_t tokens = rows * work->tokens, wanted = 16;
  if (tokens == 0) return NULL;
  work->pieces = tokens >= wanted ? 1 : (wanted + tokens - 1) / tokens;
  if (work->pieces > 4) work->pieces = 4;
  work->columns = ((work->outer + work->pieces - 1) / work->pieces + 7) / 8 * 8;
  return parallel_for(api, context, task, tokens * work->pieces, work);
}

static Status *compute_sum(void *data, Context *context) {
  const Api api = ((const Kernel *)data)->api;
  Work work = {0};
  size_t rows = 0;
  TRY(read_tokens(api, context, 1, &rows, &work));
  TRY(read_site(api, context, 2, &work.up));
  return share(api, context, add_piece, rows, &work);
}

static Status *compute_gated(void *data, Context *context) {
  const Api api = ((const Kernel *)data)->api;
  Work work = {0};
  size_t rows = 0, num_inputs;
  TRY(get_num_inputs(api, context, &num_inputs));
  TRY(read_tokens(api, context, 2, &rows, &work));
  if (num_inputs > 3) TRY(read_site(api, context, 2, &work.up));
  if (num_inputs > 5) TRY(read_site(api, context, 4, &work.gate));
  return share(api, context, gate_piece, rows, &work);
}

static CONSTANT(const char *, sum_name, "AddAdapters")
static CONSTANT(size_t, sum_inputs, 4)
static CONSTANT(const char *, gated_name, "GatedUp")
static CONSTANT(size_t, gated_inputs, 6)
static CONSTANT(size_t, num_outputs, 1)
static Presence only_base(const Operator *operator, size_t i) {
  (void)operator;
  return i == 0 ? required : optional;
}

const Operator add_adapters = {
    SHARED_ANSWERS,
    .output_type = is_float,
    .name = sum_name,
    .input_type = is_float,
    .num_inputs = sum_inputs,
    .num_outputs = num_outputs,
    .destroy = destroy_kernel,
    .input_presence = is_required,
    .create_or_fail = create_kernel,
    .compute_or_fail = compute_sum,
};

const Operator gated_up = {
    SHARED_ANSWERS,
    .output_type = is_float,
    .name = gated_name,
    .input_type = is_float,
    .num_inputs = gated_inputs,
    .num_outputs = num_outputs,
    .destroy = destroy_kernel,
    .input_presence = only_base,
    .create_or_fail = create_kernel,
    .compute_or_fail = compute_gated,
};
