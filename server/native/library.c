// The library as ONNX Runtime loads it: our operators, in the domain "dutyfree".

#include <stdlib.h>

#include "operator.h"

#define EXPORT __attribute__((visibility("default")))

Status *input_data(Api api, const Context *context, size_t i, const void **data) {
  const Value *value = NULL;
  TRY(get_input(api, context, i, &value));
  *data = NULL;
  return value ? get_data(api, value, (void **)data) : NULL;
}

Status *input_dims(Api api, const Context *context, size_t i, int64_t *dims, size_t *num_dims) {
  const Value *value;
  Shape *shape;
  TRY(get_input(api, context, i, &value));
  TRY(get_shape(api, value, &shape));
  Status *failure = get_num_dims(api, shape, num_dims);
  if (!failure && (*num_dims == 0 || *num_dims > max_dims)) {
    failure = create_status(api, "dutyfree: an input must have 1 to 8 dimensions");
  }
  if (!failure) failure = get_dims(api, shape, dims, *num_dims);
  release_shape(api, shape);
  return failure;
}

Status *output_data(Api api, Context *context, size_t i, const int64_t *dims, size_t num_dims,
                    void **data) {
  Value *value;
  TRY(get_output(api, context, i, dims, num_dims, &value));
  return get_data(api, value, data);
}

static Status *read_matrix(Api api, const Info *info, Matrix *w) {
  int64_t bits, block, inner, outer;
  TRY(get_integer(api, info, "bits", &bits));
  TRY(get_integer(api, info, "block_size", &block));
  TRY(get_integer(api, info, "K", &inner));
  TRY(get_integer(api, info, "N", &outer));
  if (!can_multiply_blocks((int)bits, (int)block)) {
    return create_status(api, "dutyfree: W has 4 or 8 bits in blocks of 32, 64 or 128");
  }
  *w = (Matrix){
      .bits = (int)bits,
      .block = (int)block,
      .inner = (size_t)inner,
      .outer = (size_t)outer,
      .blocks = (size_t)((inner + block - 1) / block),
  };
  return NULL;
}

Status *create_matrix_kernel(const Operator *operator, Api api, const Info *info, void **made) {
  (void)operator;
  MatrixKernel *kernel = malloc(sizeof *kernel);
  if (!kernel) return create_status(api, "out of memory");
  kernel->api = api;
  Status *failure = read_matrix(api, info, &kernel->shape);
  if (failure) free(kernel);
  else *made = kernel;
  return failure;
}

void destroy_matrix_kernel(void *kernel) { free(kernel); }

Presence matrix_presence(const Operator *operator, size_t i) {
  (void)operator;
  return i >= 3 ? optional : required;
}

Status *read_weights(Api api, const Context *context, Matrix *w) {
  size_t num_inputs;
  TRY(input_data(api, context, 1, (const void **)&w->data));
  TRY(input_data(api, context, 2, (const void **)&w->scales));
  TRY(get_num_inputs(api, context, &num_inputs));
  if (num_inputs > 3) TRY(input_data(api, context, 3, (const void **)&w->zeros));
  if (num_inputs > 4) TRY(input_data(api, context, 4, (const void **)&w->mins));
  if (!w->mins || (!w->zeros && w->block == 32)) return NULL;
  return create_status(api, "dutyfree: W has mins with blocks of 32 alone, and without zeros");
}

CONSTANT(const char *, on_cpu, NULL)
CONSTANT(int, version_one, 1)

int default_memory(const Operator *operator, size_t i) {
  (void)operator, (void)i;
  return 0;
}

Presence is_required(const Operator *operator, size_t i) {
  (void)operator, (void)i;
  return required;
}

ElementType is_float(const Operator *operator, size_t i) {
  (void)operator, (void)i;
  return float32;
}

/** 1 where this processor can run the operators. */
EXPORT int dutyfree_can_run(void) { return can_multiply(); }

/** Which instructions the products use. */
EXPORT const char *dutyfree_instructions(void) { return products_name(); }

/** What ONNX Runtime calls for every session that is given this library. */
EXPORT Status *RegisterCustomOps(SessionOptions *options, const ApiBase *base) {
  const Api api = base->get_api(api_version);
  Domain *domain; // Sessions refer to it, so it is never released: some bytes a session.
  TRY(create_domain(api, "dutyfree", &domain));
  TRY(add_operator(api, domain, &quantized_mat_mul));
  TRY(add_operator(api, domain, &gated_product));
  TRY(add_operator(api, domain, &cached_attention));
  TRY(add_operator(api, domain, &cached_attention_halves));
  TRY(add_operator(api, domain, &add_adapters));
  TRY(add_operator(api, domain, &gated_up));
  TRY(add_operator(api, domain, &embed_rows));
  return add_domain(api, options, domain);
}
