// Products on processors with AVX-512's VNNI, in vectors of 256 bits.

#include "vectors.h"

/** Sums of four adjacent products in each lane, on top of `sum`. */
INLINE __m256i dot(const __m256i *w, const int8_t *a, int vectors, __m256i sum) {
  UNROLL for (int v = 0; v < vectors; v++) {
    sum = _mm256_dpbusd_epi32(sum, w[v], _mm256_load_si256((const __m256i *)(a + 32 * v)));
  }
  return sum;
}

#define DOT4(w, a, vectors) dot(w, a, vectors, _mm256_setzero_si256())
/** The offsets take 128 off each weight. */
#define DOT8(w, a, vectors, offsets) dot(w, a, vectors, _mm256_load_si256(offsets))
#define TILES tiles_vnni
#include "tile.h"
