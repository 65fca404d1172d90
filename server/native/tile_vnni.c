// Products on processors with AVX-512's VNNI: a vector holds a word of 16 columns, or 16 of a column.

#include <string.h>

#include "tile.h"
#include "vectors.h"

enum { lanes = 16 };
#define UNROLL_LANES _Pragma("GCC unroll 16")

/** In each quarter, word c of v[i] becomes word i of t[c], four vectors at a time. */
INLINE void transpose_fours(const __m512i *v, int count, __m512i *t) {
  UNROLL for (int i = 0; i < count; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    const __m512i b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    const __m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]);
    const __m512i d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
    t[i] = _mm512_unpacklo_epi64(a, c);
    t[i + 1] = _mm512_unpackhi_epi64(a, c);
    t[i + 2] = _mm512_unpacklo_epi64(b, d);
    t[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
}

/** Lane c of v[i] becomes lane i of v[c]. */
INLINE void transpose(__m512i *v) {
  __m512i t[lanes];
  transpose_fours(v, lanes, t);
  UNROLL for (int i = 0; i < 4; i++) {
    const __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
    v[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}

/** At most 8 words of each column: half the work of 16. */
INLINE void turn_few(const uint8_t *from, size_t stride, size_t columns, size_t count,
                     uint32_t (*to)[tile_columns]) {
  const __mmask8 some = (__mmask8)((1u << count) - 1);
  const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
  const __m512i high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
  // Column i in the lower half, column i + 8 in the upper one.
  __m512i v[8], t[8];
  UNROLL for (size_t i = 0; i < 8; i++) {
    const size_t one = i < columns ? i : columns - 1, other = i + 8 < columns ? i + 8 : columns - 1;
    const __m256i lower = _mm256_maskz_loadu_epi32(some, from + one * stride);
    const __m256i upper = _mm256_maskz_loadu_epi32(some, from + other * stride);
    v[i] = _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1);
  }
  transpose_fours(v, 8, t);
  UNROLL for (int i = 0; i < 4; i++) {
    v[i] = _mm512_permutex2var_epi64(t[i], low, t[i + 4]);
    v[i + 4] = _mm512_permutex2var_epi64(t[i], high, t[i + 4]);
  }
  UNROLL for (size_t i = 0; i < 8; i++) {
    if (i < count) _mm512_store_si512(to[i], v[i]);
  }
}

static void turn(const uint8_t *from, size_t stride, size_t columns, size_t count,
                 uint32_t (*to)[tile_columns]) {
  for (size_t at = 0; at < count; at += lanes) {
    const size_t left = count - at;
    if (left <= 8) {
      turn_few(from + 4 * at, stride, columns, left, to + at);
      return;
    }
    const __mmask16 some = left < lanes ? (__mmask16)((1u << left) - 1) : (__mmask16)-1;
    __m512i v[lanes];
    UNROLL_LANES for (size_t c = 0; c < lanes; c++) {
      const size_t column = c < columns ? c : columns - 1;
      v[c] = _mm512_maskz_loadu_epi32(some, from + column * stride + 4 * at);
    }
    transpose(v);
    for (size_t i = 0; i < lanes && i < left; i++) _mm512_store_si512(to[at + i], v[i]);
  }
}

/** Even places, then odd ones, of integers of 4 bits. */
INLINE void split(__m512i bytes, __m512i *w) {
  const __m512i low = _mm512_set1_epi8(15);
  w[0] = _mm512_and_si512(bytes, low);
  w[1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
}

/** Adds block b's sums, scaled, and what its zero lies off. */
INLINE void add_scaled(__m512i sum, const RoundedRows *x, size_t b, int m, const Panel *panel,
                       size_t slot, int extras, __m512 *acc) {
  const size_t at = b * GROUP_ROWS + m;
  const __m512 scale = _mm512_loadu_ps(panel->scales[slot]);
  const __m512 by = _mm512_mul_ps(scale, _mm512_set1_ps(x->scales[at]));
  *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), by, *acc);
  if (!extras) return;
  const __m512 extra = _mm512_loadu_ps(panel->extras[slot]);
  *acc = _mm512_fmadd_ps(extra, _mm512_set1_ps(x->sums[at]), *acc);
}

INLINE __m512i four(const int8_t *a) {
  int32_t bytes;
  memcpy(&bytes, a, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

INLINE void add_from_panel(const Matrix *w, const RoundedRows *x, const Piece *piece,
                           const Panel *panel, Sums sums, int bits, int block, int extras,
                           int rows) {
  (void)w;
  const int words = block * bits / 32;
  const uint32_t(*word)[tile_columns] = panel->words;
  const int8_t *a = x->values + piece->from * block;
  __m512 acc[GROUP_ROWS];
  UNROLL for (int m = 0; m < rows; m++) acc[m] = _mm512_load_ps(sums[m]);
  for (size_t b = piece->from; b < piece->to; b++, word += words, a += block) {
    fetch_next(piece, b - piece->from, block * bits / 8);
    __m512i sum[GROUP_ROWS];
    UNROLL for (int m = 0; m < rows; m++) {
      sum[m] = _mm512_set1_epi32(x->starts[b * GROUP_ROWS + m]);
    }
    UNROLL_LANES for (int i = 0; i < words; i++) {
      __m512i v[2] = {_mm512_loadu_si512(word[i])};
      if (bits == 4) split(v[0], v);
      for (int half = 0; half < 8 / bits; half++) {
        const int8_t *at = a + 32 / bits * i + 4 * half;
        UNROLL for (int m = 0; m < rows; m++) {
          sum[m] = _mm512_dpbusd_epi32(sum[m], v[half], four(at + m * x->stride));
        }
      }
    }
    UNROLL for (int m = 0; m < rows; m++) {
      add_scaled(sum[m], x, b, m, panel, b - piece->from, extras, acc + m);
    }
  }
  UNROLL for (int m = 0; m < rows; m++) _mm512_store_ps(sums[m], acc[m]);
}

/** Sums of each column's lanes: of all (blocks 1), of both halves or of the four quarters. */
INLINE void sum_columns(__m512i *v, int are_small, int blocks, __m512i *sums) {
  const __m512i ones = _mm512_set1_epi16(1);
  UNROLL for (int i = 0; i < 8; i++) {
    const __m512i a = v[2 * i], b = v[2 * i + 1];
    // Two at once, where lanes and their pairs stay within 16 bits.
    if (are_small) v[i] = _mm512_madd_epi16(_mm512_packs_epi32(a, b), ones);
    else v[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  }
  UNROLL for (int i = 0; i < 4; i++) {
    const __m512i a = v[2 * i], b = v[2 * i + 1];
    if (are_small) v[i] = _mm512_madd_epi16(_mm512_packs_epi32(a, b), ones);
    else v[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
  }
  // v[i]: four columns' sums of each quarter.
  __m512i even[2], odd[2];
  UNROLL for (int i = 0; i < 2; i++) {
    even[i] = _mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0x88);
    odd[i] = _mm512_shuffle_i32x4(v[2 * i], v[2 * i + 1], 0xdd);
  }
  if (blocks == 4) {
    sums[0] = _mm512_shuffle_i32x4(even[0], even[1], 0x88);
    sums[1] = _mm512_shuffle_i32x4(odd[0], odd[1], 0x88);
    sums[2] = _mm512_shuffle_i32x4(even[0], even[1], 0xdd);
    sums[3] = _mm512_shuffle_i32x4(odd[0], odd[1], 0xdd);
    return;
  }
  UNROLL for (int i = 0; i < 2; i++) even[i] = _mm512_add_epi32(even[i], odd[i]);
  sums[0] = _mm512_shuffle_i32x4(even[0], even[1], 0x88);
  sums[1] = _mm512_shuffle_i32x4(even[0], even[1], 0xdd);
  if (blocks == 1) sums[0] = _mm512_add_epi32(sums[0], sums[1]);
}

/** 64 or 128 values as vectors of weights meet them; of 4 bits: even places, then odd ones. */
INLINE void read_row(const int8_t *a, int bits, int vectors, __m512i *to) {
  UNROLL for (int i = 0; i < vectors; i++) to[i] = _mm512_loadu_si512(a + 64 * i);
  if (bits == 8) return;
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  const __m512i first = to[0];
  to[0] = _mm512_permutex2var_epi32(first, even, to[1]);
  to[1] = _mm512_permutex2var_epi32(first, odd, to[1]);
}

INLINE void add_from_memory(const Matrix *w, const RoundedRows *x, const Piece *piece,
                            const Panel *panel, Sums sums, int bits, int block, int extras,
                            int rows) {
  // A vector or two of a column at once: a block of it, or up to four.
  const int bytes = block * bits / 8, at_once = bytes < 64 ? 64 : bytes;
  const int blocks = at_once / bytes, vectors = at_once / 64, parts = vectors * 8 / bits;
  const size_t stride = w->blocks * bytes, columns = piece->last - piece->first;
  const uint8_t *p = w->data + piece->first * stride + piece->from * bytes;
  __m512 acc[few_rows];
  UNROLL for (int m = 0; m < rows; m++) acc[m] = _mm512_load_ps(sums[m]);
  for (size_t b = piece->from; b < piece->to; b += blocks, p += at_once) {
    const int left = piece->to - b < (size_t)blocks ? (int)(piece->to - b) : blocks;
    const __mmask64 some = (__mmask64)-1 >> (64 - (left * bytes < 64 ? left * bytes : 64));
    __m512i row[few_rows][2];
    UNROLL for (int m = 0; m < rows; m++) {
      read_row(x->values + m * x->stride + b * block, bits, parts, row[m]);
    }
    __m512i dots[few_rows][lanes];
    UNROLL_LANES for (size_t c = 0; c < lanes; c++) {
      const uint8_t *const q = p + (c < columns ? c : columns - 1) * stride;
      __m512i v[2] = {_mm512_maskz_loadu_epi8(some, q)};
      if (vectors == 2) v[1] = _mm512_loadu_si512(q + 64);
      if (bits == 4) split(v[0], v);
      UNROLL for (int m = 0; m < rows; m++) {
        dots[m][c] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), v[0], row[m][0]);
        if (parts == 2) dots[m][c] = _mm512_dpbusd_epi32(dots[m][c], v[1], row[m][1]);
      }
    }
    for (int i = 0; i < left; i++) fetch_next(piece, b + i - piece->from, bytes);
    UNROLL for (int m = 0; m < rows; m++) {
      __m512i sum[4];
      sum_columns(dots[m], bits == 4, blocks, sum);
      for (int i = 0; i < left; i++) {
        const __m512i start = _mm512_set1_epi32(x->starts[(b + i) * GROUP_ROWS + m]);
        const __m512i whole = _mm512_add_epi32(sum[i], start);
        add_scaled(whole, x, b + i, m, panel, b + i - piece->from, extras, acc + m);
      }
    }
  }
  UNROLL for (int m = 0; m < rows; m++) _mm512_store_ps(sums[m], acc[m]);
}

#define NAME "avx512-vnni"
#define TILES tiles_vnni
#include "tile_table.h"
