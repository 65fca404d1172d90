// The operator dutyfree::CachedAttention: GroupQueryAttention with rotary embedding, over a cache that
// is read and appended to in place. Inputs: query [rows, tokens, heads · dim], key and value (or all
// three packed in the first and the next two left out), past key and value [rows, kv_heads, capacity,
// dim], seqlens_k [rows] (tokens of a row after this step, less one), cos and sin [positions, dim / 2].
// Outputs: attended [rows, tokens, heads · dim]; present key and value, which must be the past's memory.
// dutyfree::CachedAttentionHalves is the same over a cache of float16; the other inputs stay float32.
//
// A token's result depends on its row's keys alone: not on the batch, nor on how a prompt was cut.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/attention.h"
#include "operator.h"

enum { query, key, value, past_key, past_value, seqlens_k, cos_table, sin_table, inputs };

typedef struct {
  Api api;
  int heads, kv_heads;
  int is_half; // the cache
} Kernel;

typedef struct {
  size_t rows, tokens, capacity;
  int heads, kv_heads, dim;
  const float *query, *key, *value;
  size_t query_stride, key_stride; // from one token to the next
  void *keys, *values;             // [rows, kv_heads, capacity, dim] of float, or of uint16_t
  int is_half;
  const int32_t *last;             // position of each row's last token
  const float *cos, *sin;
  float *rotated; // queries [rows, groups, tokens, heads of a group, dim], scaled
  float *to;
  // Groups of query heads that share a key head, of at most max_group.
  int group, groups_a_key;
  size_t groups; // of a token
  size_t tile, tiles; // Tokens of a row that go over the keys together; how often.
  int are_turned;     // The keys of a tile.
  // Where a token has several chunks of keys and there are few tokens, chunks go to threads.
  size_t chunks;
  Found *found; // [rows, groups, chunks]
} Work;

static Status *create_kernel(const Operator *operator, Api api, const Info *info, void **made) {
  int64_t heads, kv_heads;
  TRY(get_integer(api, info, "num_heads", &heads));
  TRY(get_integer(api, info, "kv_num_heads", &kv_heads));
  if (kv_heads < 1 || heads % kv_heads != 0) {
    return create_status(api, "CachedAttention: num_heads is no multiple of kv_num_heads");
  }
  Kernel *kernel = malloc(sizeof *kernel);
  if (!kernel) return create_status(api, "out of memory");
  *kernel = (Kernel){
      .api = api,
      .heads = (int)heads,
      .kv_heads = (int)kv_heads,
      .is_half = operator == &cached_attention_halves,
  };
  *made = kernel;
  return NULL;
}

static void destroy_kernel(void *kernel) { free(kernel); }

static size_t first_position(const Work *work, size_t row) {
  return (size_t)work->last[row] + 1 - work->tokens;
}

enum { max_dim = 512 };

/** Where an element of the cache is. */
static void *cache_at(const Work *work, void *cache, size_t element) {
  return (char *)cache + element * (work->is_half ? sizeof(uint16_t) : sizeof(float));
}

/** Queries of a token's group: of one token after the other, so that those of two are side by side. */
static float *rotated_at(const Work *work, size_t token, size_t group) {
  const size_t row = token / work->tokens, of_group = (size_t)work->group * work->dim;
  return work->rotated +
         ((row * work->groups + group) * work->tokens + token % work->tokens) * of_group;
}

/** Turns a token's queries and key by its position; writes key and value into the cache. */
static void place_token(void *data, size_t index) {
  const Work *work = data;
  const int dim = work->dim;
  const size_t row = index / work->tokens;
  const size_t position = first_position(work, row) + index % work->tokens;
  const float *cos = work->cos + position * (dim / 2);
  const float *sin = work->sin + position * (dim / 2);
  const float scale = 1 / sqrtf((float)dim);
  const int heads_a_key = work->heads / work->kv_heads;
  for (int h = 0; h < work->heads; h++) {
    const float *from = work->query + index * work->query_stride + h * dim;
    const int of_key = h % heads_a_key;
    const int group = h / heads_a_key * work->groups_a_key + of_key / work->group;
    float *to = rotated_at(work, index, group) + of_key % work->group * dim;
    rotate_head(from, cos, sin, dim, scale, to);
  }
  for (int h = 0; h < work->kv_heads; h++) {
    const size_t from = index * work->key_stride + h * dim;
    const size_t to = ((row * work->kv_heads + h) * work->capacity + position) * dim;
    void *key_to = cache_at(work, work->keys, to), *value_to = cache_at(work, work->values, to);
    if (work->is_half) {
      float rotated[max_dim];
      rotate_head(work->key + from, cos, sin, dim, 1, rotated);
      to_halves(rotated, dim, key_to);
      to_halves(work->value + from, dim, value_to);
    } else {
      rotate_head(work->key + from, cos, sin, dim, 1, key_to);
      memcpy(value_to, work->value + from, (size_t)dim * sizeof(float));
    }
  }
}

/** One group of a token's query heads and the keys that they look at. */
typedef struct {
  const float *queries;
  float *to;
  size_t first; // element of the cache
  int heads;
  size_t count;
  int has_later; // as in Cached, in the last chunk
} Look;

static Look look_of(const Work *work, size_t token, size_t group) {
  const size_t kv_head = group / work->groups_a_key;
  const int heads_a_key = work->heads / work->kv_heads;
  const int first = (int)(group % work->groups_a_key) * work->group;
  const int left = heads_a_key - first;
  const size_t row = token / work->tokens;
  const size_t at = (token * work->heads + kv_head * heads_a_key + first) * work->dim;
  return (Look){
      .queries = rotated_at(work, token, group),
      .to = work->to + at,
      .first = (row * work->kv_heads + kv_head) * work->capacity * work->dim,
      .heads = left < work->group ? left : work->group,
      .count = first_position(work, row) + token % work->tokens + 1,
  };
}

enum {
  most_tile = 32, // tokens
  turned_dim = 128, // at most, where keys are turned
};

/** What a thread needs for a tile. */
static _Thread_local struct {
  float keys[chunk_keys * turned_dim], values[chunk_keys * turned_dim];
  float sums[most_tile * max_group * turned_dim];
} room __attribute__((aligned(64)));

/** The keys of a chunk that a look sees. */
static Cached cached_of(const Work *work, const Look *look, size_t chunk) {
  const size_t before = chunk * chunk_keys, left = look->count - before;
  const size_t first = look->first + before * work->dim;
  return (Cached){
      .keys = cache_at(work, work->keys, first),
      .values = cache_at(work, work->values, first),
      .are_halves = work->is_half,
      .count = left < chunk_keys ? left : chunk_keys,
      .has_later = look->has_later && left < chunk_keys,
  };
}

/** `are_turned`: the thread's room has the chunk's keys. */
static void look_at_chunk(const Work *work, const Look *look, size_t chunk, int are_turned,
                          Found *found) {
  float scores[chunk_keys * max_group] __attribute__((aligned(64)));
  Cached cached = cached_of(work, look, chunk);
  if (are_turned) {
    cached.turned = room.keys;
    cached.values = room.values;
    cached.are_halves = 0;
  }
  attend_chunk(look->queries, look->heads, &cached, work->dim, scores, found);
}

/** Whether two tokens that follow one another go over the keys together, as one group of heads. */
static int has_pairs(const Work *work) { return work->tokens > 1 && 2 * work->group <= max_group; }

/** A token or two of a tile. */
typedef struct {
  Look look;
  Found found;
} Part;

/** The parts of `count` tokens; returns how many there are. */
static size_t part_tile(const Work *work, size_t token, size_t count, size_t group, Part *parts) {
  size_t num = 0;
  float *sums = room.sums;
  for (size_t t = 0; t < count; num++) {
    Part *const part = parts + num;
    part->look = look_of(work, token + t, group);
    part->found.sums = sums;
    // At the end of a chunk the second token has a chunk more, with nothing for the first.
    if (has_pairs(work) && t + 1 < count && part->look.count % chunk_keys != 0) {
      part->look.heads *= 2;
      part->look.has_later = 1;
    }
    sums += (size_t)part->look.heads * work->dim;
    t += part->look.has_later ? 2 : 1;
  }
  return num;
}

static void write_part(const Work *work, const Part *part) {
  const Look *const look = &part->look;
  if (!look->has_later) {
    write_found(&part->found, look->heads, work->dim, look->to);
    return;
  }
  float both[max_group * max_dim];
  write_found(&part->found, look->heads, work->dim, both);
  const size_t floats = (size_t)look->heads / 2 * work->dim;
  memcpy(look->to, both, floats * sizeof(float));
  memcpy(look->to + (size_t)work->heads * work->dim, both + floats, floats * sizeof(float));
}

/** One group of a tile of a row's tokens over all their chunks: index [row, tile, group]. */
static void attend_tile(void *data, size_t index) {
  const Work *work = data;
  const size_t groups = work->groups;
  const size_t tiles = work->tiles;
  const size_t row = index / groups / tiles, group = index % groups;
  const size_t first = (tiles - 1 - index / groups % tiles) * work->tile; // The longest first.
  const size_t left = work->tokens - first, count = left < work->tile ? left : work->tile;
  Part parts[most_tile];
  const size_t num = part_tile(work, row * work->tokens + first, count, group, parts);
  const Look *const last = &parts[num - 1].look;
  float sums[max_group * max_dim];
  Found next = {.sums = sums};
  for (size_t chunk = 0; chunk * chunk_keys < last->count; chunk++) {
    if (work->are_turned) {
      const Cached all = cached_of(work, last, chunk);
      turn_keys(&all, all.count + (size_t)all.has_later, work->dim, room.keys, room.values);
    }
    for (Part *part = parts; part < parts + num; part++) {
      if (chunk * chunk_keys >= part->look.count) continue;
      look_at_chunk(work, &part->look, chunk, work->are_turned, chunk ? &next : &part->found);
      if (chunk) merge_found(&part->found, &next, part->look.heads, work->dim);
    }
  }
  for (const Part *part = parts; part < parts + num; part++) write_part(work, part);
}

/** One chunk of one group of a token: index [token, group, chunk]. */
static void attend_part(void *data, size_t index) {
  const Work *work = data;
  const size_t chunk = index % work->chunks, of = index / work->chunks;
  const Look look = look_of(work, of / work->groups, of % work->groups);
  if (chunk * chunk_keys < look.count) look_at_chunk(work, &look, chunk, 0, work->found + index);
}

/** What attend_part found, merged in the order in which attend_tile does. */
static void merge_parts(void *data, size_t index) {
  const Work *work = data;
  const Look look = look_of(work, index / work->groups, index % work->groups);
  Found *all = work->found + index * work->chunks;
  for (size_t chunk = 1; chunk * chunk_keys < look.count; chunk++) {
    merge_found(all, all + chunk, look.heads, work->dim);
  }
  write_found(all, look.heads, work->dim, look.to);
}

enum {
  enough_pieces = 64, // Pieces of work from which on chunks need not go to threads.
  worth_turning = 16, // tokens of a row
};

static Status *attend_all(const Kernel *kernel, Context *context, Work *work, size_t longest) {
  const size_t pieces = work->rows * work->tokens * work->groups;
  work->chunks = (longest + chunk_keys - 1) / chunk_keys;
  if (work->chunks == 1 || pieces >= enough_pieces) {
    const size_t all = work->rows * work->tiles * work->groups;
    return parallel_for(kernel->api, context, attend_tile, all, work);
  }
  const size_t parts = pieces * work->chunks, floats = (size_t)work->group * work->dim;
  work->found = malloc(parts * sizeof *work->found);
  float *sums = malloc(parts * floats * sizeof *sums);
  Status *failure = NULL;
  if (work->found && sums) {
    for (size_t i = 0; i < parts; i++) work->found[i].sums = sums + i * floats;
    failure = parallel_for(kernel->api, context, attend_part, parts, work);
    if (!failure) failure = parallel_for(kernel->api, context, merge_parts, pieces, work);
  } else {
    failure = create_status(kernel->api, "CachedAttention: out of memory");
  }
  free(sums);
  free(work->found);
  return failure;
}

static Status *run(const Kernel *kernel, Context *context, Work *work) {
  const size_t tokens = work->rows * work->tokens;
  size_t longest = 0;
  for (size_t row = 0; row < work->rows; row++) {
    const int64_t after = (int64_t)work->last[row] + 1;
    if (after < (int64_t)work->tokens || after > (int64_t)work->capacity) {
      return create_status(kernel->api, "CachedAttention: seqlens_k is outside the cache");
    }
    if ((size_t)after > longest) longest = (size_t)after;
  }
  work->rotated = malloc(tokens * work->groups * work->group * work->dim * sizeof(float));
  if (!work->rotated) return create_status(kernel->api, "CachedAttention: out of memory");
  Status *failure = NULL;
  if (work->tokens > 1) {
    failure = parallel_for(kernel->api, context, place_token, tokens, work);
  } else {
    for (size_t i = 0; i < tokens; i++) place_token(work, i);
  }
  if (!failure) failure = attend_all(kernel, context, work, longest);
  free(work->rotated);
  return failure;
}

static Status *compute(void *data, Context *context) {
  const Kernel *kernel = data;
  const Api api = kernel->api;
  const char *wrong = "CachedAttention: shapes do not fit, or the cache is not updated in place";
  int64_t dims[max_dims], cache[max_dims];
  size_t num_dims, num_cache_dims;
  TRY(input_dims(api, context, query, dims, &num_dims));
  TRY(input_dims(api, context, past_key, cache, &num_cache_dims));
  if (num_dims != 3 || num_cache_dims != 4 || dims[0] != cache[0]) return create_status(api, wrong);
  Work work = {
      .rows = (size_t)dims[0],
      .tokens = (size_t)dims[1],
      .capacity = (size_t)cache[2],
      .heads = kernel->heads,
      .kv_heads = kernel->kv_heads,
      .dim = (int)cache[3],
      .is_half = kernel->is_half,
  };
  const int heads_a_key = work.heads / work.kv_heads;
  work.groups_a_key = (heads_a_key + max_group - 1) / max_group;
  work.group = (heads_a_key + work.groups_a_key - 1) / work.groups_a_key;
  work.groups = (size_t)work.kv_heads * work.groups_a_key;
  work.are_turned = work.tokens >= worth_turning && work.dim <= turned_dim && can_turn_keys();
  work.tile = work.are_turned ? most_tile : has_pairs(&work) ? 2 : 1;
  work.tiles = (work.tokens + work.tile - 1) / work.tile;
  const size_t query_width = (size_t)work.heads * work.dim;
  const size_t key_width = (size_t)work.kv_heads * work.dim;
  if (work.dim % 16 != 0 || work.dim > max_dim) return create_status(api, wrong);

  const void *past[2];
  TRY(input_data(api, context, query, (const void **)&work.query));
  TRY(input_data(api, context, key, (const void **)&work.key));
  TRY(input_data(api, context, value, (const void **)&work.value));
  TRY(input_data(api, context, past_key, &past[0]));
  TRY(input_data(api, context, past_value, &past[1]));
  TRY(input_data(api, context, seqlens_k, (const void **)&work.last));
  TRY(input_data(api, context, cos_table, (const void **)&work.cos));
  TRY(input_data(api, context, sin_table, (const void **)&work.sin));
  const int is_packed = work.key == NULL;
  work.query_stride = is_packed ? query_width + 2 * key_width : query_width;
  work.key_stride = is_packed ? work.query_stride : key_width;
  if ((size_t)dims[2] != work.query_stride) return create_status(api, wrong);
  if (is_packed) {
    work.key = work.query + query_width;
    work.value = work.key + key_width;
  }
  dims[2] = (int64_t)query_width;
  TRY(output_data(api, context, 0, dims, 3, (void **)&work.to));
  TRY(output_data(api, context, 1, cache, 4, &work.keys));
  TRY(output_data(api, context, 2, cache, 4, &work.values));
  if (work.keys != past[0] || work.values != past[1]) return create_status(api, wrong);
  return work.rows * work.tokens == 0 ? NULL : run(kernel, context, &work);
}

static const char *name(const Operator *operator) {
  return operator == &cached_attention_halves ? "CachedAttentionHalves" : "CachedAttention";
}
static CONSTANT(size_t, num_inputs, inputs)
static CONSTANT(size_t, num_outputs, 3)
static ElementType cache_type(const Operator *operator) {
  return operator == &cached_attention_halves ? float16 : float32;
}
static ElementType input_type(const Operator *operator, size_t i) {
  if (i == past_key || i == past_value) return cache_type(operator);
  return i == seqlens_k ? int32 : float32;
}
static ElementType output_type(const Operator *operator, size_t i) {
  return i == 0 ? float32 : cache_type(operator);
}
static Presence input_presence(const Operator *operator, size_t i) {
  (void)operator;
  return i == key || i == value ? optional : required;
}

#define ATTENTION_ANSWERS                                                              \
  SHARED_ANSWERS, .name = name, .input_type = input_type, .num_inputs = num_inputs,    \
  .output_type = output_type, .num_outputs = num_outputs, .destroy = destroy_kernel,   \
  .input_presence = input_presence, .create_or_fail = create_kernel, .compute_or_fail = compute

const Operator cached_attention = {ATTENTION_ANSWERS};
const Operator cached_attention_halves = {ATTENTION_ANSWERS};
