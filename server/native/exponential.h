// e^x in vectors.

#ifndef DUTYFREE_EXPONENTIAL_H
#define DUTYFREE_EXPONENTIAL_H

#include <immintrin.h>

/** e^x for x ≤ 0 to about one unit in the last place; 0 below −87. */
static inline __m256 exp_negative(__m256 x) {
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

#endif
