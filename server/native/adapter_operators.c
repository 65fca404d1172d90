// Two operators where adapters meet a linear module's output. Each row brings its own components: a
// [rows, inner, width], b [rows, width, outer]; of width 0 nothing is read or added. Where all rows have
// the same, one copy of them will do: a [1, inner, width], b [1, width, outer].
//
//   dutyfree::AddAdapters(base [rows, tokens, outer], x [rows, tokens, inner], a, b) = base + (x a) b
//   dutyfree::GatedUp(gate_up [rows, tokens, 2 · outer] (, x, up's a, b (, gate's a, b)))
//       = silu(gate + (x a_gate) b_gate) · (up + (x a_up) b_up), [rows, tokens, outer]

#include <stdlib.h>

#include "site.h"

typedef struct {
  Api api;
} Kernel;

typedef struct {
  size_t tokens, inner, outer; // tokens of a row
  size_t num_tokens, together; // of all rows; in one task
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

/** The components of a task's tokens at a site, and what x gives through them. */
typedef struct {
  Components of;
  const float *activations; // of the first token
  float own[max_width];
} Active;

static void activate_site(const Work *work, const Site *site, size_t token, Active *active) {
  active->of = components_of(site, token / work->tokens);
  active->activations = active->own;
  if (site->activations) active->activations = site->activations + token * site->width;
  else if (site->width > 0) activate(&active->of, 1, work->x + token * work->inner, active->own);
}

enum { common_tokens = 16 }; // of one task, where all have the same components

/** Some columns of some tokens' output. */
typedef struct {
  size_t token, count, first, last;
} Piece;

static Piece piece_of(const Work *work, size_t index) {
  const size_t first = index % work->pieces * work->columns, end = first + work->columns;
  const size_t token = index / work->pieces * work->together, left = work->num_tokens - token;
  return (Piece){
      .token = token,
      .count = left < work->together ? left : work->together,
      .first = first,
      .last = end < work->outer ? end : work->outer,
  };
}

static void add_piece(void *data, size_t index) {
  const Work *work = data;
  const Piece piece = piece_of(work, index);
  const size_t at = piece.token * work->outer + piece.first;
  Active up;
  activate_site(work, &work->up, piece.token, &up);
  add_components(&up.of, piece.count, up.activations, (Columns){work->base + at, work->outer},
                 (Place){work->to + at, work->outer}, piece.first, piece.last);
}

enum { gated_columns = 256, gated_tokens = 4 }; // that stay in the first cache

/** Columns [first, last) with their adapters: `base` itself where there are none. */
static Columns adapted(const Active *active, size_t done, size_t count, Columns base, float *room,
                       size_t first, size_t last) {
  if (active->of.width == 0) return base;
  const float *activations = active->activations + done * active->of.width;
  const Place to = {room, gated_columns};
  add_components(&active->of, count, activations, base, to, first, last);
  return (Columns){room, gated_columns};
}

static void gate_piece(void *data, size_t index) {
  const Work *work = data;
  const Piece piece = piece_of(work, index);
  const size_t outer = work->outer;
  float rooms[2][gated_tokens * gated_columns];
  Active of_gate, of_up;
  activate_site(work, &work->gate, piece.token, &of_gate);
  activate_site(work, &work->up, piece.token, &of_up);
  for (size_t from = piece.first; from < piece.last; from += gated_columns) {
    const size_t end = from + gated_columns, until = end < piece.last ? end : piece.last;
    for (size_t done = 0; done < piece.count; done += gated_tokens) {
      const size_t left = piece.count - done, count = left < gated_tokens ? left : gated_tokens;
      const size_t token = piece.token + done;
      const Columns gate = {work->base + 2 * token * outer + from, 2 * outer};
      const Columns up = {gate.at + outer, 2 * outer};
      const Columns g = adapted(&of_gate, done, count, gate, rooms[0], from, until);
      const Columns u = adapted(&of_up, done, count, up, rooms[1], from, until);
      for (size_t t = 0; t < count; t++) {
        float *to = work->to + (token + t) * outer + from;
        gate_values(g.at + t * g.step, u.at + t * u.step, to, until - from);
      }
    }
  }
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
  work->up.inner = work->gate.inner = work->inner;
  work->up.outer = work->gate.outer = work->outer;
  dims[2] = (int64_t)work->outer;
  return output_data(api, context, 0, dims, 3, (void **)&work->to);
}

/**
 * A few pieces for each thread, of whole vectors. Tokens that have the same components share the reading
 * of them.
 */
static Status *share(Api api, const Context *context, void (*task)(void *, size_t), size_t rows,
                     Work *work) {
  const size_t wanted = 16, width = work->up.width + work->gate.width;
  work->num_tokens = rows * work->tokens;
  if (work->num_tokens == 0) return NULL;
  const int shares = work->num_tokens > 1 && width > 0 && is_common(&work->up) &&
                     is_common(&work->gate);
  work->together = shares ? common_tokens : 1;
  const size_t groups = (work->num_tokens + work->together - 1) / work->together;
  const size_t most = shares ? 16 : 4;
  work->pieces = groups >= wanted ? 1 : (wanted + groups - 1) / groups;
  if (work->pieces > most) work->pieces = most;
  work->columns = ((work->outer + work->pieces - 1) / work->pieces + 7) / 8 * 8;
  work->pieces = (work->outer + work->columns - 1) / work->columns;
  if (!shares) return parallel_for(api, context, task, groups * work->pieces, work);

  float *activations = malloc(work->num_tokens * width * sizeof *activations);
  if (!activations) return create_status(api, "adapters: out of memory");
  Status *failure = activate_sites(api, context, &work->up, &work->gate, work->x, 1,
                                   work->num_tokens, activations);
  if (!failure) failure = parallel_for(api, context, task, groups * work->pieces, work);
  free(activations);
  return failure;
}

static Status *compute_sum(void *data, Context *context) {
  const Api api = ((const Kernel *)data)->api;
  Work work = {0};
  size_t rows = 0;
  TRY(read_tokens(api, context, 1, &rows, &work));
  TRY(read_site(api, context, 2, rows, &work.up));
  return share(api, context, add_piece, rows, &work);
}

static Status *compute_gated(void *data, Context *context) {
  const Api api = ((const Kernel *)data)->api;
  Work work = {0};
  size_t rows = 0, num_inputs;
  TRY(get_num_inputs(api, context, &num_inputs));
  TRY(read_tokens(api, context, 2, &rows, &work));
  if (num_inputs > 3) TRY(read_site(api, context, 2, rows, &work.up));
  if (num_inputs > 5) TRY(read_site(api, context, 4, rows, &work.gate));
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
