// The part of ONNX Runtime's C API that an operator of one's own needs. Its function table only ever
// grows, so an entry is known by its index in it (as in server/runtime/onnxruntime.ts).

#ifndef DUTYFREE_ONNXRUNTIME_H
#define DUTYFREE_ONNXRUNTIME_H

#include <stddef.h>
#include <stdint.h>

enum { api_version = 22 };

typedef struct Status Status; // NULL: went well
typedef struct Value Value;
typedef struct Context Context;
typedef struct Info Info;
typedef struct SessionOptions SessionOptions;
typedef struct Domain Domain;
typedef struct Shape Shape;
typedef struct ShapeContext ShapeContext;

typedef void (*Entry)(void);
typedef const Entry *Api;
typedef struct {
  Api (*get_api)(uint32_t version);
  const char *(*get_version)(void);
} ApiBase;

#define ENTRY(api, index, result, ...) ((result(*)(__VA_ARGS__))(api)[index])

static inline Status *create_status(Api api, const char *message) {
  const int failed = 1;
  return ENTRY(api, 0, Status *, int, const char *)(failed, message);
}
static inline Status *create_domain(Api api, const char *name, Domain **domain) {
  return ENTRY(api, 26, Status *, const char *, Domain **)(name, domain);
}
static inline Status *add_operator(Api api, Domain *domain, const void *operator) {
  return ENTRY(api, 27, Status *, Domain *, const void *)(domain, operator);
}
static inline Status *add_domain(Api api, SessionOptions *options, Domain *domain) {
  return ENTRY(api, 28, Status *, SessionOptions *, Domain *)(options, domain);
}
static inline Status *get_data(Api api, const Value *value, void **data) {
  return ENTRY(api, 51, Status *, const Value *, void **)(value, data);
}
static inline Status *get_num_dims(Api api, const Shape *shape, size_t *count) {
  return ENTRY(api, 61, Status *, const Shape *, size_t *)(shape, count);
}
static inline Status *get_dims(Api api, const Shape *shape, int64_t *dims, size_t count) {
  return ENTRY(api, 62, Status *, const Shape *, int64_t *, size_t)(shape, dims, count);
}
static inline Status *get_shape(Api api, const Value *value, Shape **shape) {
  return ENTRY(api, 65, Status *, const Value *, Shape **)(value, shape);
}
static inline Status *get_integer(Api api, const Info *info, const char *name, int64_t *value) {
  return ENTRY(api, 86, Status *, const Info *, const char *, int64_t *)(info, name, value);
}
static inline Status *get_num_inputs(Api api, const Context *context, size_t *count) {
  return ENTRY(api, 88, Status *, const Context *, size_t *)(context, count);
}
static inline Status *get_input(Api api, const Context *context, size_t i, const Value **value) {
  return ENTRY(api, 90, Status *, const Context *, size_t, const Value **)(context, i, value);
}
static inline Status *get_output(Api api, Context *context, size_t i, const int64_t *dims,
                                 size_t num_dims, Value **value) {
  return ENTRY(api, 91, Status *, Context *, size_t, const int64_t *, size_t, Value **)(
      context, i, dims, num_dims, value);
}
static inline void release_shape(Api api, Shape *shape) {
  ENTRY(api, 99, void, Shape *)(shape);
}
/** Calls `task` with 0 … count − 1 on the threads of the session. */
static inline Status *parallel_for(Api api, const Context *context, void (*task)(void *, size_t),
                                   size_t count, void *data) {
  const size_t one_by_one = 0;
  return ENTRY(api, 274, Status *, const Context *, void (*)(void *, size_t), size_t, size_t,
               void *)(context, task, count, one_by_one, data);
}

typedef enum { float32 = 1, uint8 = 2, int32 = 6, int64 = 7, float16 = 10 } ElementType;
typedef enum { required = 0, optional = 1, variadic = 2 } Presence;

typedef struct Operator Operator;
struct Operator {
  uint32_t version;
  void *(*create)(const Operator *, Api, const Info *);
  const char *(*name)(const Operator *);
  const char *(*provider)(const Operator *);
  ElementType (*input_type)(const Operator *, size_t);
  size_t (*num_inputs)(const Operator *);
  ElementType (*output_type)(const Operator *, size_t);
  size_t (*num_outputs)(const Operator *);
  void (*compute)(void *, Context *);
  void (*destroy)(void *);
  Presence (*input_presence)(const Operator *, size_t);
  Presence (*output_presence)(const Operator *, size_t);
  int (*input_memory)(const Operator *, size_t);
  int (*least_variadic_inputs)(const Operator *);
  int (*variadic_inputs_alike)(const Operator *);
  int (*least_variadic_outputs)(const Operator *);
  int (*variadic_outputs_alike)(const Operator *);
  Status *(*create_or_fail)(const Operator *, Api, const Info *, void **);
  Status *(*compute_or_fail)(void *, Context *);
  Status *(*infer_shape)(const Operator *, ShapeContext *);
  int (*first_version)(const Operator *);
  int (*last_version)(const Operator *);
  size_t (*in_place)(int **, int **);
  void (*release_in_place)(int *, int *);
  size_t (*aliases)(int **, int **);
  void (*release_aliases)(int *, int *);
};

#endif
