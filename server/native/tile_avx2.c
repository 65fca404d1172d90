// Products on processors with AVX2 and FMA.

#include <string.h>

#include "vectors.h"

/** Sums of four adjacent products in each lane. 8 · 15 · 127 stays within 16 bits. */
INLINE __m256i dot4(const __m256i *w, const int8_t *a, int vectors) {
  __m256i sum = _mm256_maddubs_epi16(w[0], _mm256_load_si256((const __m256i *)a));
  UNROLL for (int v = 1; v < vectors; v++) {
    const __m256i x = _mm256_load_si256((const __m256i *)(a + 32 * v));
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w[v], x));
  }
  return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

/** The same around 128: |w| times a with the sign of w, as only one side may have a sign. */
INLINE __m256i dot8(const __m256i *w, const int8_t *a, int vectors) {
  __m256i sum = _mm256_setzero_si256();
  UNROLL for (int v = 0; v < vectors; v++) {
    const __m256i centred = _mm256_xor_si256(w[v], _mm256_set1_epi8((char)128));
    const __m256i x = _mm256_load_si256((const __m256i *)(a + 32 * v));
    const __m256i products =
        _mm256_maddubs_epi16(_mm256_abs_epi8(centred), _mm256_sign_epi8(x, centred));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
  }
  return sum;
}

#define DOT4(w, a, vectors) dot4(w, a, vectors)
#define DOT8(w, a, vectors, offsets) ((void)(offsets), dot8(w, a, vectors))
#define TILES tiles_avx2
#include "tile.h"
#include "panel.h"
