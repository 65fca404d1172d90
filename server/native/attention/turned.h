// Keys of a chunk that many queries look at, turned so that a vector holds an element of sixteen keys: nothing
// has to be summed across lanes. Included by wide.c alone.

#define UNROLL_16 _Pragma("GCC unroll 16")

/** Four vectors' quarters, turned: quarter i of vector j becomes quarter j of vector i. */
INLINE void turn_quarters(__m512 *v) {
  const __m512 low01 = _mm512_shuffle_f32x4(v[0], v[1], 0x44);
  const __m512 high01 = _mm512_shuffle_f32x4(v[0], v[1], 0xee);
  const __m512 low23 = _mm512_shuffle_f32x4(v[2], v[3], 0x44);
  const __m512 high23 = _mm512_shuffle_f32x4(v[2], v[3], 0xee);
  v[0] = _mm512_shuffle_f32x4(low01, low23, 0x88);
  v[1] = _mm512_shuffle_f32x4(low01, low23, 0xdd);
  v[2] = _mm512_shuffle_f32x4(high01, high23, 0x88);
  v[3] = _mm512_shuffle_f32x4(high01, high23, 0xdd);
}

/** Within each quarter: element i of vector j becomes element j of vector i. */
INLINE void turn_within_quarters(__m512 *v) {
  const __m512 low01 = _mm512_unpacklo_ps(v[0], v[1]), high01 = _mm512_unpackhi_ps(v[0], v[1]);
  const __m512 low23 = _mm512_unpacklo_ps(v[2], v[3]), high23 = _mm512_unpackhi_ps(v[2], v[3]);
  v[0] = _mm512_shuffle_ps(low01, low23, 0x44);
  v[1] = _mm512_shuffle_ps(low01, low23, 0xee);
  v[2] = _mm512_shuffle_ps(high01, high23, 0x44);
  v[3] = _mm512_shuffle_ps(high01, high23, 0xee);
}

/** Sixteen vectors of sixteen. */
INLINE void turn_square(__m512 *v) {
  UNROLL for (int i = 0; i < 16; i += 4) turn_within_quarters(v + i);
  UNROLL for (int i = 0; i < 4; i++) {
    __m512 quarters[] = {v[i], v[4 + i], v[8 + i], v[12 + i]};
    turn_quarters(quarters);
    UNROLL for (int j = 0; j < 4; j++) v[4 * j + i] = quarters[j];
  }
}

void turn_keys(const Cached *from, size_t count, int dim, float *keys, float *values) {
  const size_t whole = (count + turned_keys - 1) / turned_keys * turned_keys;
  for (size_t first = 0; first < whole; first += 16) {
    float *const to = keys + first / turned_keys * turned_keys * dim + first % turned_keys;
    for (int i = 0; i < dim; i += 16) {
      __m512 square[16];
      UNROLL_16 for (size_t k = 0; k < 16; k++) {
        square[k] = first + k < count
                        ? load_cached(from->keys, (first + k) * dim + i, from->are_halves)
                        : _mm512_setzero_ps();
      }
      turn_square(square);
      UNROLL_16 for (int k = 0; k < 16; k++) _mm512_storeu_ps(to + (i + k) * turned_keys, square[k]);
    }
  }
  for (size_t i = 0; i < count * dim; i += 16) {
    _mm512_storeu_ps(values + i, load_cached(from->values, i, from->are_halves));
  }
}

enum { turned_vectors = turned_keys / 16 };

typedef __m512 Sums[max_group][turned_vectors];

#define EACH_SUM                         \
  UNROLL for (int h = 0; h < heads; h++) \
  UNROLL for (int v = 0; v < turned_vectors; v++)

/** Σ query · key of elements lane, lane + 8, … of turned keys. */
INLINE void sum_lane(const float *queries, int heads, const float *keys, int lane, int dim, Sums to) {
  EACH_SUM to[h][v] = _mm512_setzero_ps();
  for (int i = lane; i < dim; i += 8) {
    __m512 key[turned_vectors];
    UNROLL for (int v = 0; v < turned_vectors; v++) {
      key[v] = _mm512_loadu_ps(keys + i * turned_keys + 16 * v);
    }
    UNROLL for (int h = 0; h < heads; h++) {
      const __m512 query = _mm512_set1_ps(queries[h * dim + i]);
      UNROLL for (int v = 0; v < turned_vectors; v++) {
        to[h][v] = _mm512_fmadd_ps(query, key[v], to[h][v]);
      }
    }
  }
}

/** Of `lanes` lanes, 1, 2, 4 or 8: halves are added as sum_lanes does. */
#define SUM_LANES(name, half, lanes)                                                         \
  INLINE void name(const float *queries, int heads, const float *keys, int lane, int dim,    \
                   Sums to) {                                                                \
    Sums other;                                                                              \
    half(queries, heads, keys, lane, dim, to);                                               \
    half(queries, heads, keys, lane + lanes / 2, dim, other);                                \
    EACH_SUM to[h][v] = _mm512_add_ps(to[h][v], other[h][v]);                                \
  }
SUM_LANES(sum_two, sum_lane, 2)
SUM_LANES(sum_four, sum_two, 4)
SUM_LANES(sum_eight, sum_four, 8)
#undef SUM_LANES

/** Scores of sixteen keys, a head a vector: to [16, max_group]. */
INLINE void store_scores(Sums sums, int heads, int vector, float *to) {
  __m512 v[max_group];
  UNROLL for (int h = 0; h < max_group; h++) {
    v[h] = h < heads ? sums[h][vector] : _mm512_setzero_ps();
  }
  turn_within_quarters(v);
  turn_within_quarters(v + 4);
  // Now v[m] has heads 0 … 3 of keys m, 4 + m, 8 + m, 12 + m, and v[4 + m] their other heads.
  UNROLL for (int m = 0; m < 4; m += 2) {
    __m512 keys[] = {v[m], v[4 + m], v[m + 1], v[4 + m + 1]};
    turn_quarters(keys);
    UNROLL for (int k = 0; k < 4; k++) _mm512_storeu_ps(to + (4 * k + m) * max_group, keys[k]);
  }
}

/** Scores of all heads, [count, max_group], and what is left to a whole turned_keys; returns how many there are. */
INLINE size_t score_turned(const float *queries, int heads, const float *turned, size_t count,
                           int dim, float *scores) {
  if (!turned) return 0;
  for (size_t first = 0; first < count; first += turned_keys) {
    Sums sums;
    sum_eight(queries, heads, turned + first * dim, 0, dim, sums);
    UNROLL for (int v = 0; v < turned_vectors; v++) {
      store_scores(sums, heads, v, scores + (first + 16 * v) * max_group);
    }
  }
  return count;
}
