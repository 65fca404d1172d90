// Attention on processors with AVX-512: a vector holds the sums of two keys, or sixteen elements of a value.
// Each sum is the same as with vectors of eight, to the last bit.

#include "attention.h"

#include <math.h>

#include "../vectors.h"

enum { keys_at_once = 4, values_at_once = 32 };

/** Elements i … i + 7 of a key and of the one after it, or of one alone. */
INLINE __m512 load_keys(const Cached *cached, size_t first, int are_two, int i, int dim,
                        int are_halves) {
  const size_t one = first * dim + i, other = are_two ? one + dim : one;
  if (are_halves) {
    const __m128i low = _mm_loadu_si128((const __m128i *)((const uint16_t *)cached->keys + one));
    const uint16_t *const high = (const uint16_t *)cached->keys + other;
    return _mm512_cvtph_ps(
        _mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_loadu_si128((void *)high), 1));
  }
  const float *const keys = cached->keys;
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(keys + one)),
                            _mm256_loadu_ps(keys + other), 1);
}

/** Sums of neighbours, as _mm256_hadd_ps in each half. */
INLINE __m512 add_neighbours(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}

/** sum_lanes of both halves: eight sums of the lower ones, then eight of the upper ones. */
INLINE __m512 sum_both_lanes(const __m512 *acc, int rows) {
  const __m512 none = _mm512_setzero_ps();
#define ROW(m) (rows > (m) ? acc[m] : none)
  const __m512 p01 = add_neighbours(ROW(0), ROW(1));
  const __m512 p23 = rows > 2 ? add_neighbours(ROW(2), ROW(3)) : none;
  const __m512 p0123 = add_neighbours(p01, p23);
  const __m512 p45 = rows > 4 ? add_neighbours(ROW(4), ROW(5)) : none;
  const __m512 p67 = rows > 6 ? add_neighbours(ROW(6), ROW(7)) : none;
  const __m512 p4567 = rows > 4 ? add_neighbours(p45, p67) : none;
#undef ROW
  const __m512 low = _mm512_shuffle_f32x4(p0123, p4567, 0x88);
  const __m512 high = _mm512_shuffle_f32x4(p0123, p4567, 0xdd);
  const __m512 sum = _mm512_add_ps(low, high); // first four of one, of the other, then last four
  return _mm512_shuffle_f32x4(sum, sum, 0xd8);
}

/** Scores of all heads, [count, max_group], for `together` keys from the `first` on. */
INLINE void score_keys(const float *queries, int heads, const Cached *cached, int are_halves,
                       size_t first, int together, int dim, float *scores) {
  const int pairs = (together + 1) / 2;
  __m512 acc[keys_at_once / 2][max_group];
  UNROLL for (int k = 0; k < pairs; k++) {
    UNROLL for (int h = 0; h < heads; h++) acc[k][h] = _mm512_setzero_ps();
  }
  for (int i = 0; i < dim; i += 8) {
    __m512 keys[keys_at_once / 2];
    UNROLL for (int k = 0; k < pairs; k++) {
      keys[k] = load_keys(cached, first + 2 * k, together > 1, i, dim, are_halves);
    }
    UNROLL for (int h = 0; h < heads; h++) {
      const __m512 query = _mm512_broadcast_f32x8(_mm256_loadu_ps(queries + h * dim + i));
      UNROLL for (int k = 0; k < pairs; k++) {
        acc[k][h] = _mm512_fmadd_ps(query, keys[k], acc[k][h]);
      }
    }
  }
  UNROLL for (int k = 0; k < pairs; k++) {
    const __m512 sums = sum_both_lanes(acc[k], heads);
    float *const to = scores + (first + 2 * k) * max_group;
    if (together == 1) _mm256_store_ps(to, _mm512_castps512_ps256(sums));
    else _mm512_storeu_ps(to, sums);
  }
}

/** Scores become e^(score − largest); returns each head's sum, in the order of keys. */
INLINE __m256 weigh_keys(float *scores, size_t count, __m256 largest) {
  const __m512 both = _mm512_broadcast_f32x8(largest);
  __m256 weight = _mm256_setzero_ps();
  size_t j = 0;
  for (; j + 2 <= count; j += 2) {
    const __m512 score = _mm512_loadu_ps(scores + j * max_group);
    const __m512 e = exp_negative_wide(_mm512_sub_ps(score, both));
    _mm512_storeu_ps(scores + j * max_group, e);
    weight = _mm256_add_ps(weight, _mm512_castps512_ps256(e));
    weight = _mm256_add_ps(weight, _mm512_extractf32x8_ps(e, 1));
  }
  if (j == count) return weight;
  const __m256 e = exp_negative(_mm256_sub_ps(_mm256_load_ps(scores + j * max_group), largest));
  _mm256_store_ps(scores + j * max_group, e);
  return _mm256_add_ps(weight, e);
}

/** Elements at … at + 15 of a cache. */
INLINE __m512 load_cached(const void *from, size_t at, int are_halves) {
  if (!are_halves) return _mm512_loadu_ps((const float *)from + at);
  return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)((const uint16_t *)from + at)));
}

/** Σ weight · value of `count` elements of the heads' sums, from element i of each head on. */
INLINE void add_values(const float *weights, int heads, const Cached *cached, int are_halves, int i,
                       int count, int dim, float *sums) {
  const int vectors = count / 16;
  __m512 acc[values_at_once / 16][max_group];
  UNROLL for (int v = 0; v < vectors; v++) {
    UNROLL for (int h = 0; h < heads; h++) acc[v][h] = _mm512_setzero_ps();
  }
  for (size_t j = 0; j < cached->count; j++) {
    __m512 value[values_at_once / 16];
    UNROLL for (int v = 0; v < vectors; v++) {
      value[v] = load_cached(cached->values, j * dim + i + 16 * v, are_halves);
    }
    UNROLL for (int h = 0; h < heads; h++) {
      const __m512 weight = _mm512_set1_ps(weights[j * max_group + h]);
      UNROLL for (int v = 0; v < vectors; v++) {
        acc[v][h] = _mm512_fmadd_ps(weight, value[v], acc[v][h]);
      }
    }
  }
  if (cached->has_later) {
    UNROLL for (int v = 0; v < vectors; v++) {
      const __m512 value = load_cached(cached->values, cached->count * dim + i + 16 * v, are_halves);
      UNROLL for (int h = heads / 2; h < heads; h++) {
        const __m512 weight = _mm512_set1_ps(weights[cached->count * max_group + h]);
        acc[v][h] = _mm512_fmadd_ps(weight, value, acc[v][h]);
      }
    }
  }
  UNROLL for (int v = 0; v < vectors; v++) {
    UNROLL for (int h = 0; h < heads; h++) _mm512_storeu_ps(sums + h * dim + i + 16 * v, acc[v][h]);
  }
}

#include "turned.h"

#define ATTEND_CHUNK attend_chunk_wide
#include "attend.h"
