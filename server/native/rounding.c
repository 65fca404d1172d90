// Activations rounded to 8 bits a block.

#include <immintrin.h>
#include <string.h>

#include "product.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 4")

INLINE float largest_lane(__m256 v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

/** Sums of four adjacent integers in each lane, over all vectors. */
INLINE __m256i sum_fours(const __m256i *v, int vectors) {
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < vectors; i++) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), v[i]);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  return sum;
}

INLINE int sum_lanes(__m256i v) {
  __m128i x = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

/** 32 floats times `inverse`, rounded to the nearest (ties to even), in order. */
INLINE __m256i round_32(const float *x, __m256 inverse) {
  __m256i q[4];
  UNROLL for (int i = 0; i < 4; i++) {
    q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inverse));
  }
  const __m256i low = _mm256_packs_epi32(q[0], q[1]);
  const __m256i packed = _mm256_packs_epi16(low, _mm256_packs_epi32(q[2], q[3]));
  return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/** Of each eight bytes the even ones, then the odd ones. */
INLINE __m256i part_places(__m256i v) {
  const __m256i order =
      _mm256_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15,
                       0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  return _mm256_shuffle_epi8(v, order);
}

INLINE void round_blocks(const Matrix *w, const float *x, int bits, int block, int m,
                         RoundedRows *to) {
  const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const int centre = centre_of(w);
  for (size_t b = 0; b < w->blocks; b++) {
    const size_t left = w->inner - b * block, at = b * GROUP_ROWS + m;
    const float *from = x + b * block;
    float padded[128];
    if (left < (size_t)block) {
      memset(padded, 0, sizeof padded);
      from = memcpy(padded, from, left * sizeof(float));
    }
    __m256 size = _mm256_setzero_ps();
    for (int i = 0; i < block; i += 8) {
      size = _mm256_max_ps(size, _mm256_and_ps(no_sign, _mm256_loadu_ps(from + i)));
    }
    const float largest = largest_lane(size), scale = largest / 127;
    const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127 / largest : 0);
    __m256i q[4];
    UNROLL for (int i = 0; i < block / 32; i++) {
      q[i] = round_32(from + 32 * i, inverse);
      __m256i *const values = (__m256i *)value_at(to, b * block + 32 * i, m);
      _mm256_store_si256(values, bits == 4 ? part_places(q[i]) : q[i]);
    }
    const int sum = sum_lanes(sum_fours(q, block / 32));
    to->scales[at] = scale;
    to->sums[at] = scale * (float)sum;
    to->starts[at] = -centre * sum;
  }
}

typedef void Round(const Matrix *w, const float *x, int m, RoundedRows *to);

#define ROUND(bits, block)                                                                        \
  static void round_##bits##_##block(const Matrix *w, const float *x, int m, RoundedRows *to) {   \
    round_blocks(w, x, bits, block, m, to);                                                       \
  }
ROUND(4, 32) ROUND(4, 64) ROUND(4, 128) ROUND(8, 32) ROUND(8, 64) ROUND(8, 128)

/** By 8 bits or not; blocks of 32, 64, 128. */
static Round *const rounds[2][3] = {{round_4_32, round_4_64, round_4_128},
                                    {round_8_32, round_8_64, round_8_128}};

void round_row(const Matrix *w, const float *x, int m, RoundedRows *to) {
  rounds[w->bits == 8][block_index(w)](w, x, m, to);
}
