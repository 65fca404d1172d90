#include "site.h"

enum {
  activated_tokens = 16,    // of a row, in one task
  worth_threads = 1 << 18,  // products
};

Status *read_site(Api api, const Context *context, size_t first, size_t rows, Site *site) {
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
  site->rows = (size_t)dims[0];
  if (site->rows != 1 && site->rows != rows) {
    return create_status(api, "adapters: a must have one row, or all of them");
  }
  if (site->width > max_width) return create_status(api, "adapters of more than 64 components");
  return NULL;
}

typedef struct {
  const Site *sites[2];
  const float *x;
  size_t tokens; // of a row
} Work;

static size_t parts_of(size_t tokens) { return (tokens + activated_tokens - 1) / activated_tokens; }

/** Some tokens of a row: index [row, part]. */
static void activate_part(void *data, size_t index) {
  const Work *work = data;
  const size_t parts = parts_of(work->tokens), row = index / parts;
  const size_t first = index % parts * activated_tokens, left = work->tokens - first;
  const size_t token = row * work->tokens + first;
  for (size_t i = 0; i < 2; i++) {
    const Site *const site = work->sites[i];
    if (site->width == 0) continue;
    const Components of = components_of(site, row);
    activate(&of, left < activated_tokens ? left : activated_tokens, work->x + token * of.inner,
             site->activations + token * of.width);
  }
}

Status *activate_sites(Api api, const Context *context, Site *up, Site *gate, const float *x,
                       size_t rows, size_t tokens, float *memory) {
  const size_t width = up->width + gate->width, parts = rows * parts_of(tokens);
  up->activations = memory;
  gate->activations = memory + rows * tokens * up->width;
  if (width == 0) return NULL;
  Work work = {{up, gate}, x, tokens};
  if (parts > 1 && rows * tokens * up->inner * width >= worth_threads) {
    return parallel_for(api, context, activate_part, parts, &work);
  }
  for (size_t i = 0; i < parts; i++) activate_part(&work, i);
  return NULL;
}
