// Products on processors with AVX-512's VNNI: a vector holds a word of 16 columns.

#include <string.h>

#include "tiles.h"
#include "../vectors.h"

enum { lanes = 16 };
#define UNROLL_LANES _Pragma("GCC unroll 16")

/** Even places, then odd ones, of integers of 4 bits. */
INLINE void split(__m512i bytes, __m512i *w) {
  const __m512i low = _mm512_set1_epi8(15);
  w[0] = _mm512_and_si512(bytes, low);
  w[1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
}

/** Adds block b's sums, scaled, and what its zero lies off. */
INLINE void add_scaled(__m512i sum, const RoundedRows *x, size_t b, int m, const Piece *piece,
                       size_t slot, int extras, __m512 *acc) {
  const size_t at = b * GROUP_ROWS + m;
  const __m512 scale = _mm512_loadu_ps(piece->scales[slot]);
  const __m512 by = _mm512_mul_ps(scale, _mm512_set1_ps(x->scales[at]));
  *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), by, *acc);
  if (!extras) return;
  const __m512 extra = _mm512_loadu_ps(piece->extras[slot]);
  *acc = _mm512_fmadd_ps(extra, _mm512_set1_ps(x->sums[at]), *acc);
}

INLINE __m512i four(const int8_t *a) {
  int32_t bytes;
  memcpy(&bytes, a, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

INLINE void add_piece(const RoundedRows *x, const Piece *piece, Sums sums, float *to, int bits,
                      int block, int extras, int rows) {
  const int words = block * bits / 32;
  const uint32_t(*word)[tile_columns] = piece->words;
  __m512 acc[GROUP_ROWS];
  UNROLL for (int m = 0; m < rows; m++) acc[m] = _mm512_load_ps(sums[m]);
  const int8_t *a = value_at(x, piece->from * block, 0);
  for (size_t b = piece->from; b < piece->to; a += to_next_block(x, b++, block), word += words) {
    fetch_next(piece, b - piece->from, block * bits / 8);
    __m512i sum[GROUP_ROWS];
    UNROLL for (int m = 0; m < rows; m++) {
      sum[m] = _mm512_set1_epi32(x->starts[b * GROUP_ROWS + m]);
    }
    UNROLL_LANES for (int i = 0; i < words; i++) {
      __m512i v[2] = {_mm512_loadu_si512(word[i])};
      if (bits == 4) split(v[0], v);
      for (int half = 0; half < 8 / bits; half++) {
        const int8_t *const at = a + value_offset(x, 32 / bits * i + 4 * half);
        UNROLL for (int m = 0; m < rows; m++) {
          sum[m] = _mm512_dpbusd_epi32(sum[m], v[half], four(at + m * step_values));
        }
      }
    }
    UNROLL for (int m = 0; m < rows; m++) {
      add_scaled(sum[m], x, b, m, piece, b - piece->from, extras, acc + m);
    }
  }
  UNROLL for (int m = 0; m < rows; m++) _mm512_storeu_ps(to + m * piece->y.step, acc[m]);
}

static int can_run(void) {
  return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}

#define NAME "avx512-vnni"
#define TILES tiles_vnni
#include "table.h"
