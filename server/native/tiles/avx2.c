// Products on processors with AVX2 and FMA: two vectors hold a word of 16 columns.

#include <string.h>

#include "tiles.h"
#include "../vectors.h"

enum { lanes = 8, halves = tile_columns / lanes };

/** Even places, then odd ones, of integers of 4 bits. */
INLINE void split(__m256i bytes, __m256i *w) {
  const __m256i low = _mm256_set1_epi8(15);
  w[0] = _mm256_and_si256(bytes, low);
  w[1] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
}

/** Sums of two adjacent products of integers less 128 with values. 2 · 128 · 127 stays within 16 bits. */
INLINE __m256i multiply_centred(__m256i w, __m256i a) {
  const __m256i centred = _mm256_xor_si256(w, _mm256_set1_epi8((char)128));
  return _mm256_maddubs_epi16(_mm256_abs_epi8(centred), _mm256_sign_epi8(a, centred));
}

INLINE __m256i add_pairs(__m256i sum, __m256i words) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
}

/** Adds block b's sums of 8 columns, scaled, and what its zero lies off. */
INLINE __m256 add_scaled(__m256i sum, const RoundedRows *x, size_t b, int m, const Piece *piece,
                         size_t slot, int half, int extras, __m256 acc) {
  const size_t at = b * GROUP_ROWS + m;
  const __m256 scale = _mm256_loadu_ps(piece->scales[slot] + half * lanes);
  const __m256 by = _mm256_mul_ps(scale, _mm256_set1_ps(x->scales[at]));
  acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), by, acc);
  if (!extras) return acc;
  const __m256 extra = _mm256_loadu_ps(piece->extras[slot] + half * lanes);
  return _mm256_fmadd_ps(extra, _mm256_set1_ps(x->sums[at]), acc);
}

/** What products of 4 bits lie too high by; those of 8 bits are taken around 128. */
INLINE __m256i start_of(const RoundedRows *x, size_t b, int m, int bits) {
  return bits == 4 ? _mm256_set1_epi32(x->starts[b * GROUP_ROWS + m]) : _mm256_setzero_si256();
}

INLINE __m256i four(const int8_t *a) {
  int32_t bytes;
  memcpy(&bytes, a, sizeof bytes);
  return _mm256_set1_epi32(bytes);
}

/** Adds the products of 32 places of 8 columns with each row's, whose values begin at a. */
INLINE void add_places(const uint32_t *word, const int8_t *a, int bits, int rows, __m256i *sum) {
  __m256i pairs[GROUP_ROWS];
  UNROLL for (int i = 0; i < bits; i++) {
    __m256i v[2] = {_mm256_loadu_si256((const __m256i *)(word + i * tile_columns))};
    if (bits == 4) split(v[0], v);
    UNROLL for (int m = 0; m < rows; m++) {
      const int8_t *const at = a + m * step_values + 32 / bits * i;
      if (bits == 8) {
        sum[m] = add_pairs(sum[m], multiply_centred(v[0], four(at)));
        continue;
      }
      // 8 · 2 · 15 · 127 stays within 16 bits.
      const __m256i even = _mm256_maddubs_epi16(v[0], four(at));
      const __m256i odd = _mm256_maddubs_epi16(v[1], four(at + 4));
      pairs[m] = _mm256_add_epi16(i == 0 ? even : _mm256_add_epi16(pairs[m], even), odd);
    }
  }
  UNROLL for (int m = 0; m < rows && bits == 4; m++) sum[m] = add_pairs(sum[m], pairs[m]);
}

/** Of `count` halves of the columns, from one on: all that rows are summed in stays in registers. */
INLINE void add_halves(const RoundedRows *x, const Piece *piece, Sums sums, float *to, int bits,
                       int block, int extras, int rows, int from, int count) {
  const int words = block * bits / 32;
  __m256 acc[halves][GROUP_ROWS];
  UNROLL for (int i = 0; i < count; i++) {
    UNROLL for (int m = 0; m < rows; m++) acc[i][m] = _mm256_load_ps(sums[m] + (from + i) * lanes);
  }
  const int8_t *a = value_at(x, piece->from * block, 0);
  for (size_t b = piece->from; b < piece->to; a += to_next_block(x, b++, block)) {
    const size_t slot = b - piece->from;
    if (from == 0) fetch_next(piece, slot, block * bits / 8);
    UNROLL for (int i = 0; i < count; i++) {
      const int half = from + i;
      const uint32_t *const word = piece->words[slot * words] + half * lanes;
      __m256i sum[GROUP_ROWS];
      UNROLL for (int m = 0; m < rows; m++) sum[m] = start_of(x, b, m, bits);
      const int8_t *at = a;
      for (int place = 0; place < block; place += 32) {
        add_places(word + place * bits / 32 * tile_columns, at, bits, rows, sum);
        at += (place + 32) % step_values ? 32 : x->step + 32 - step_values;
      }
      UNROLL for (int m = 0; m < rows; m++) {
        acc[i][m] = add_scaled(sum[m], x, b, m, piece, slot, half, extras, acc[i][m]);
      }
    }
  }
  UNROLL for (int i = 0; i < count; i++) {
    UNROLL for (int m = 0; m < rows; m++) {
      _mm256_storeu_ps(to + m * piece->y.step + (from + i) * lanes, acc[i][m]);
    }
  }
}

INLINE void add_piece(const RoundedRows *x, const Piece *piece, Sums sums, float *to, int bits,
                      int block, int extras, int rows) {
  if (rows <= 2) {
    add_halves(x, piece, sums, to, bits, block, extras, rows, 0, halves);
    return;
  }
  for (int half = 0; half < halves; half++) {
    add_halves(x, piece, sums, to, bits, block, extras, rows, half, 1);
  }
}

/** Whoever has AVX2 also turns halves into floats (F16C). */
static int can_run(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#define NAME "avx2"
#define TILES tiles_avx2
#include "table.h"
