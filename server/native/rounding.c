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

/** The even bytes, then the odd ones. */
INLINE __m256i split_places(__m256i v) {
  const __m256i order =
      _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15,
                       0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
  return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(v, order), 0xd8);
}

INLINE void round_block(const float *x, int bits, int block, int8_t *values, int32_t *offsets,
                        float *scale, float *sum) {
  const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const int vectors = block / 32;
  __m256 size = _mm256_setzero_ps();
  for (int i = 0; i < block; i += 8) {
    size = _mm256_max_ps(size, _mm256_and_ps(no_sign, _mm256_loadu_ps(x + i)));
  }
  const float largest = largest_lane(size);
  const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127 / largest : 0);
  __m256i q[4];
  UNROLL for (int i = 0; i < vectors; i++) {
    q[i] = round_32(x + 32 * i, inverse);
    if (bits == 4) q[i] = split_places(q[i]);
  }
  const __m256i fours = sum_fours(q, vectors);
  *scale = largest / 127;
  *sum = *scale * (float)sum_lanes(fours);
  if (bits == 8) {
    const __m256i none = _mm256_setzero_si256();
    const __m256i offset = _mm256_sub_epi32(none, _mm256_slli_epi32(fours, 7));
    _mm256_store_si256((__m256i *)offsets, offset);
  } else {
    UNROLL for (int i = 0; i + 1 < vectors; i += 2) {
      const __m256i even = _mm256_permute2x128_si256(q[i], q[i + 1], 0x20);
      q[i + 1] = _mm256_permute2x128_si256(q[i], q[i + 1], 0x31);
      q[i] = even;
    }
  }
  UNROLL for (int i = 0; i < vectors; i++) _mm256_store_si256((__m256i *)(values + 32 * i), q[i]);
}

/** The same for a block of 32 with 4 bits, into its half of a pair. */
static void round_half(const float *x, int is_last, RoundedRows *to, size_t b, int m) {
  const size_t pair = b / 2 * to->rows + m, half = b % 2;
  int8_t split[32] __attribute__((aligned(32)));
  float scale;
  round_block(x, 4, 32, split, NULL, &scale, to->sums + b * GROUP_ROWS + m);
  int8_t *values = to->values + pair * 64;
  float *lanes = to->lanes + pair * 8;
  memcpy(values + 16 * half, split, 16);
  memcpy(values + 32 + 16 * half, split + 16, 16);
  for (int i = 0; i < 4; i++) lanes[4 * half + i] = scale;
  if (!is_last || half == 1) return;
  memset(values + 16, 0, 16);
  memset(values + 48, 0, 16);
  memset(lanes + 4, 0, 4 * sizeof *lanes);
}

INLINE void round_blocks(const Matrix *w, const float *x, int bits, int block, int m,
                         RoundedRows *to) {
  for (size_t b = 0; b < w->blocks; b++) {
    const size_t left = w->inner - b * block;
    const float *from = x + b * block;
    float padded[128];
    if (left < (size_t)block) {
      memset(padded, 0, sizeof padded);
      from = memcpy(padded, from, left * sizeof(float));
    }
    if (bits == 4 && block == 32) {
      round_half(from, b + 1 == w->blocks, to, b, m);
      continue;
    }
    int8_t *values = to->values + (b * to->rows + m) * block;
    int32_t *offsets = to->offsets + (b * to->rows + m) * 8;
    float *scale = to->scales + b * GROUP_ROWS + m;
    float *sum = to->sums + b * GROUP_ROWS + m;
    round_block(from, bits, block, values, offsets, scale, sum);
  }
}

typedef void Round(const Matrix *w, const float *x, int m, RoundedRows *to);

#define ROUND(bits, block)                                                                        \
  static void round_##bits##_##block(const Matrix *w, const float *x, int m, RoundedRows *to) {   \
    round_blocks(w, x, bits, block, m, to);                                                       \
  }
ROUND(4, 32) ROUND(4, 64) ROUND(4, 128) ROUND(8, 32) ROUND(8, 64) ROUND(8, 128)

/** By 8 bits or not; blocks of 32, 64, 128: as Tiles. */
static Round *const rounds[2][3] = {{round_4_32, round_4_64, round_4_128},
                                    {round_8_32, round_8_64, round_8_128}};

void round_row(const Matrix *w, const float *x, int m, RoundedRows *to) {
  rounds[w->bits == 8][block_index(w)](w, x, m, to);
}
