#include "attention.h"

#include <math.h>

#include "../vectors.h"

void rotate_head(const float *x, const float *cos, const float *sin, int dim, float scale,
                 float *to) {
  const int half = dim / 2;
  const __m256 factor = _mm256_set1_ps(scale);
  for (int i = 0; i < half; i += 8) {
    const __m256 first = _mm256_loadu_ps(x + i), second = _mm256_loadu_ps(x + half + i);
    const __m256 c = _mm256_loadu_ps(cos + i), s = _mm256_loadu_ps(sin + i);
    const __m256 a = _mm256_sub_ps(_mm256_mul_ps(first, c), _mm256_mul_ps(second, s));
    const __m256 b = _mm256_add_ps(_mm256_mul_ps(second, c), _mm256_mul_ps(first, s));
    _mm256_storeu_ps(to + i, _mm256_mul_ps(a, factor));
    _mm256_storeu_ps(to + half + i, _mm256_mul_ps(b, factor));
  }
}

void to_halves(const float *x, int count, uint16_t *to) {
  for (int i = 0; i < count; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128((__m128i *)(to + i), halves);
  }
}

enum { keys_at_once = 2, values_at_once = 16 };

/** Elements i … i + 7 of a cache. */
INLINE __m256 load_cached(const void *from, size_t i, int are_halves) {
  if (!are_halves) return _mm256_loadu_ps((const float *)from + i);
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)from + i)));
}

INLINE size_t score_turned(const float *queries, int heads, const float *turned, size_t count,
                           int dim, float *scores) {
  (void)queries, (void)heads, (void)turned, (void)count, (void)dim, (void)scores;
  return 0;
}

/** Scores of all heads, [count, max_group], for `together` keys from the `first` on. */
INLINE void score_keys(const float *queries, int heads, const Cached *cached, int are_halves,
                       size_t first, int together, int dim, float *scores) {
  __m256 acc[2][max_group];
  UNROLL for (int k = 0; k < together; k++) {
    UNROLL for (int h = 0; h < heads; h++) acc[k][h] = _mm256_setzero_ps();
  }
  for (int i = 0; i < dim; i += 8) {
    __m256 key[2];
    UNROLL for (int k = 0; k < together; k++) {
      key[k] = load_cached(cached->keys, (first + k) * dim + i, are_halves);
    }
    UNROLL for (int h = 0; h < heads; h++) {
      const __m256 query = _mm256_loadu_ps(queries + h * dim + i);
      UNROLL for (int k = 0; k < together; k++) {
        acc[k][h] = _mm256_fmadd_ps(query, key[k], acc[k][h]);
      }
    }
  }
  UNROLL for (int k = 0; k < together; k++) {
    _mm256_store_ps(scores + (first + k) * max_group, sum_lanes(acc[k], heads));
  }
}

/** Scores become e^(score − largest); returns each head's sum, in the order of keys. */
INLINE __m256 weigh_keys(float *scores, size_t count, __m256 largest) {
  __m256 weight = _mm256_setzero_ps();
  for (size_t j = 0; j < count; j++) {
    const __m256 score = _mm256_load_ps(scores + j * max_group);
    const __m256 e = exp_negative(_mm256_sub_ps(score, largest));
    _mm256_store_ps(scores + j * max_group, e);
    weight = _mm256_add_ps(weight, e);
  }
  return weight;
}

/** Σ weight · value of `count` elements of the heads' sums, from element i of each head on. */
INLINE void add_values(const float *weights, int heads, const Cached *cached, int are_halves, int i,
                       int count, int dim, float *sums) {
  const int vectors = count / 8;
  __m256 acc[2][max_group];
  UNROLL for (int v = 0; v < vectors; v++) {
    UNROLL for (int h = 0; h < heads; h++) acc[v][h] = _mm256_setzero_ps();
  }
  for (size_t j = 0; j < cached->count; j++) {
    __m256 value[2];
    UNROLL for (int v = 0; v < vectors; v++) {
      value[v] = load_cached(cached->values, j * dim + i + 8 * v, are_halves);
    }
    UNROLL for (int h = 0; h < heads; h++) {
      const __m256 weight = _mm256_broadcast_ss(weights + j * max_group + h);
      UNROLL for (int v = 0; v < vectors; v++) {
        acc[v][h] = _mm256_fmadd_ps(weight, value[v], acc[v][h]);
      }
    }
  }
  if (cached->has_later) {
    UNROLL for (int v = 0; v < vectors; v++) {
      const __m256 value = load_cached(cached->values, cached->count * dim + i + 8 * v, are_halves);
      UNROLL for (int h = heads / 2; h < heads; h++) {
        const __m256 weight = _mm256_broadcast_ss(weights + cached->count * max_group + h);
        acc[v][h] = _mm256_fmadd_ps(weight, value, acc[v][h]);
      }
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    UNROLL for (int h = 0; h < heads; h++) _mm256_storeu_ps(sums + h * dim + i + 8 * v, acc[v][h]);
  }
}

void merge_found(Found *into, const Found *more, int heads, int dim) {
  const __m256 one = _mm256_loadu_ps(into->largest), other = _mm256_loadu_ps(more->largest);
  const __m256 largest = _mm256_max_ps(one, other);
  float keep[max_group], add[max_group];
  const __m256 kept = exp_negative(_mm256_sub_ps(one, largest));
  const __m256 added = exp_negative(_mm256_sub_ps(other, largest));
  _mm256_storeu_ps(keep, kept);
  _mm256_storeu_ps(add, added);
  _mm256_storeu_ps(into->largest, largest);
  const __m256 weight = _mm256_mul_ps(_mm256_loadu_ps(into->weight), kept);
  _mm256_storeu_ps(into->weight,
                   _mm256_fmadd_ps(_mm256_loadu_ps(more->weight), added, weight));
  for (int h = 0; h < heads; h++) {
    const __m256 a = _mm256_set1_ps(keep[h]), b = _mm256_set1_ps(add[h]);
    for (int i = h * dim; i < (h + 1) * dim; i += 8) {
      const __m256 sum = _mm256_mul_ps(_mm256_loadu_ps(into->sums + i), a);
      _mm256_storeu_ps(into->sums + i, _mm256_fmadd_ps(_mm256_loadu_ps(more->sums + i), b, sum));
    }
  }
}

void write_found(const Found *found, int heads, int dim, float *to) {
  for (int h = 0; h < heads; h++) {
    const __m256 inverse = _mm256_set1_ps(1 / found->weight[h]);
    for (int i = h * dim; i < (h + 1) * dim; i += 8) {
      _mm256_storeu_ps(to + i, _mm256_mul_ps(_mm256_loadu_ps(found->sums + i), inverse));
    }
  }
}

#define ATTEND_CHUNK attend_chunk_narrow
#include "attend.h"

int can_turn_keys(void) { return can_be_wide(); }

void attend_chunk(const float *queries, int heads, const Cached *cached, int dim, float *scores,
                  Found *found) {
  (can_be_wide() ? attend_chunk_wide : attend_chunk_narrow)(queries, heads, cached, dim, scores,
                                                            found);
}
