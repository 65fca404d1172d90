// One pass of some heads over some keys, ATTEND_CHUNK, for a kind of processor: included last by who defines
// score_turned, which returns how many keys it has scored, score_keys of up to keys_at_once keys, weigh_keys,
// and add_values of up to values_at_once elements.

/** Fetches what comes `ahead` of some keys, and their values, which are looked at later. */
INLINE void fetch_keys(const Cached *cached, int are_halves, size_t j, int dim) {
  enum { ahead = 2 << 10 };
  const size_t bytes = (size_t)dim * (are_halves ? sizeof(uint16_t) : sizeof(float));
  const char *keys = (const char *)cached->keys + j * bytes + ahead;
  const char *values = (const char *)cached->values + j * bytes;
  for (size_t line = 0; line < keys_at_once * bytes; line += 64) {
    _mm_prefetch(keys + line, _MM_HINT_T0);
    _mm_prefetch(values + line, _MM_HINT_T1);
  }
}

/** Each head's largest score. */
INLINE __m256 largest_of(const float *scores, size_t count) {
  enum { at_once = 4 }; // One chain would wait for itself.
  __m256 largest[at_once];
  UNROLL for (int i = 0; i < at_once; i++) largest[i] = _mm256_load_ps(scores);
  size_t j = 1;
  for (; j + at_once <= count; j += at_once) {
    UNROLL for (int i = 0; i < at_once; i++) {
      largest[i] = _mm256_max_ps(largest[i], _mm256_load_ps(scores + (j + i) * max_group));
    }
  }
  for (; j < count; j++) {
    largest[0] = _mm256_max_ps(largest[0], _mm256_load_ps(scores + j * max_group));
  }
  return _mm256_max_ps(_mm256_max_ps(largest[0], largest[1]),
                       _mm256_max_ps(largest[2], largest[3]));
}

INLINE void attend(const float *queries, int heads, const Cached *cached, int are_halves, int dim,
                   float *scores, Found *found) {
  const size_t count = cached->count + (cached->has_later != 0);
  size_t j = are_halves ? 0 : score_turned(queries, heads, cached->turned, count, dim, scores);
  for (; j + keys_at_once <= count; j += keys_at_once) {
    fetch_keys(cached, are_halves, j, dim);
    score_keys(queries, heads, cached, are_halves, j, keys_at_once, dim, scores);
  }
  for (; j + 2 <= count; j += 2) {
    score_keys(queries, heads, cached, are_halves, j, 2, dim, scores);
  }
  if (j < count) score_keys(queries, heads, cached, are_halves, j, 1, dim, scores);
  if (cached->has_later) {
    // Of weight 0 where it is not seen, which adds nothing.
    for (int h = 0; h < heads / 2; h++) scores[(count - 1) * max_group + h] = -INFINITY;
  }
  const __m256 largest = largest_of(scores, count);
  _mm256_storeu_ps(found->largest, largest);
  _mm256_storeu_ps(found->weight, weigh_keys(scores, count, largest));
  int i = 0;
  for (; i + values_at_once <= dim; i += values_at_once) {
    add_values(scores, heads, cached, are_halves, i, values_at_once, dim, found->sums);
  }
  for (; i + 16 <= dim; i += 16) {
    add_values(scores, heads, cached, are_halves, i, 16, dim, found->sums);
  }
}

void ATTEND_CHUNK(const float *queries, int heads, const Cached *cached, int dim, float *scores,
                  Found *found) {
  // How many heads there are is known to the compiler.
  switch (heads * 2 + (cached->are_halves != 0)) {
#define CASE(n)                                                                      \
  case 2 * n: attend(queries, n, cached, 0, dim, scores, found); return;             \
  case 2 * n + 1: attend(queries, n, cached, 1, dim, scores, found); return;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
  }
}
