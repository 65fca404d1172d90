// Vectors of eight floats: what several files do with them.

#ifndef DUTYFREE_VECTORS_H
#define DUTYFREE_VECTORS_H

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

/** e^x for x ≤ 0 to about one unit in the last place; 0 below −87. */
INLINE __m256 exp_negative(__m256 x) {
  const __m256 least = _mm256_set1_ps(-87);
  const __m256 is_tiny = _mm256_cmp_ps(x, least, _CMP_LT_OQ);
  x = _mm256_max_ps(least, x); // In this order NaN stays NaN.
  // x = n · ln 2 + r with |r| ≤ ln 2 / 2; ln 2 in two parts, the first of few bits.
  const __m256 turns = _mm256_mul_ps(x, _mm256_set1_ps(1.44269504f));
  const __m256 n = _mm256_round_ps(turns, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  // Taylor's series of e^r: the first term left out is below 1e-8.
  __m256 sum = _mm256_set1_ps(1.0f / 5040);
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 720));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 120));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 24));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 6));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(0.5f));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1));
  const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  const __m256 scaled =
      _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), power));
  return _mm256_andnot_ps(is_tiny, scaled);
}

#ifdef __AVX512F__
/** The same of sixteen, to the last bit. */
INLINE __m512 exp_negative_wide(__m512 x) {
  const __m512 least = _mm512_set1_ps(-87);
  const __mmask16 is_tiny = _mm512_cmp_ps_mask(x, least, _CMP_LT_OQ);
  x = _mm512_max_ps(least, x);
  const __m512 turns = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const __m512 n = _mm512_roundscale_ps(turns, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 sum = _mm512_set1_ps(1.0f / 5040);
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 720));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 120));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 24));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 6));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(0.5f));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1));
  const __m512i power = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23);
  const __m512 scaled = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(sum), power));
  return _mm512_maskz_mov_ps(_mm512_knot(is_tiny), scaled);
}
#endif

/** Whether this processor has vectors of sixteen floats. */
INLINE int can_be_wide(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}

/** Sum of each vector's eight lanes, a lane a vector, in one order whatever `rows` is. */
INLINE __m256 sum_lanes(const __m256 *acc, int rows) {
  const __m256 none = _mm256_setzero_ps();
#define ROW(m) (rows > (m) ? acc[m] : none)
  const __m256 p01 = _mm256_hadd_ps(ROW(0), ROW(1));
  const __m256 p23 = rows > 2 ? _mm256_hadd_ps(ROW(2), ROW(3)) : none;
  const __m256 p0123 = _mm256_hadd_ps(p01, p23);
  const __m256 p45 = rows > 4 ? _mm256_hadd_ps(ROW(4), ROW(5)) : none;
  const __m256 p67 = rows > 6 ? _mm256_hadd_ps(ROW(6), ROW(7)) : none;
  const __m256 p4567 = rows > 4 ? _mm256_hadd_ps(p45, p67) : none;
#undef ROW
  const __m256 low = _mm256_permute2f128_ps(p0123, p4567, 0x20);
  const __m256 high = _mm256_permute2f128_ps(p0123, p4567, 0x31);
  return _mm256_add_ps(low, high);
}

#endif
