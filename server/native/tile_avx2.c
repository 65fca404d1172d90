// Products on processors with AVX2 and FMA: two vectors hold a word of 16 columns, or one 8 of a column.

#include <string.h>

#include "tile.h"
#include "vectors.h"

enum { lanes = 8, halves = tile_columns / lanes };
#define UNROLL_COLUMNS _Pragma("GCC unroll 16")

/** Lane c of v[i] becomes lane i of v[c]. */
INLINE void transpose(__m256i *v) {
  __m256i t[lanes];
  UNROLL for (int i = 0; i < lanes; i += 4) {
    const __m256i a = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    const __m256i b = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    const __m256i c = _mm256_unpacklo_epi32(v[i + 2], v[i + 3]);
    const __m256i d = _mm256_unpackhi_epi32(v[i + 2], v[i + 3]);
    t[i] = _mm256_unpacklo_epi64(a, c);
    t[i + 1] = _mm256_unpackhi_epi64(a, c);
    t[i + 2] = _mm256_unpacklo_epi64(b, d);
    t[i + 3] = _mm256_unpackhi_epi64(b, d);
  }
  UNROLL for (int i = 0; i < 4; i++) {
    v[i] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x20);
    v[i + 4] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x31);
  }
}

/** A vector of which the first `count` words are read; the others are 0. */
INLINE __m256i read_words(const uint8_t *from, size_t count) {
  if (count >= lanes) return _mm256_loadu_si256((const __m256i *)from);
  const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i some = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), places);
  return _mm256_maskload_epi32((const int *)from, some);
}

static void turn(const uint8_t *from, size_t stride, size_t columns, size_t count,
                 uint32_t (*to)[tile_columns]) {
  for (size_t at = 0; at < count; at += lanes) {
    const size_t left = count - at;
    for (size_t half = 0; half < halves; half++) {
      __m256i v[lanes];
      UNROLL for (size_t i = 0; i < lanes; i++) {
        const size_t c = half * lanes + i, column = c < columns ? c : columns - 1;
        v[i] = read_words(from + column * stride + 4 * at, left);
      }
      transpose(v);
      for (size_t i = 0; i < lanes && i < left; i++) {
        _mm256_store_si256((__m256i *)(to[at + i] + half * lanes), v[i]);
      }
    }
  }
}

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
INLINE __m256 add_scaled(__m256i sum, const RoundedRows *x, size_t b, int m, const Panel *panel,
                         size_t slot, int half, int extras, __m256 acc) {
  const size_t at = b * GROUP_ROWS + m;
  const __m256 scale = _mm256_loadu_ps(panel->scales[slot] + half * lanes);
  const __m256 by = _mm256_mul_ps(scale, _mm256_set1_ps(x->scales[at]));
  acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), by, acc);
  if (!extras) return acc;
  const __m256 extra = _mm256_loadu_ps(panel->extras[slot] + half * lanes);
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
INLINE void add_places(const uint32_t *word, const int8_t *a, size_t stride, int bits, int rows,
                       __m256i *sum) {
  __m256i pairs[GROUP_ROWS];
  UNROLL for (int i = 0; i < bits; i++) {
    __m256i v[2] = {_mm256_loadu_si256((const __m256i *)(word + i * tile_columns))};
    if (bits == 4) split(v[0], v);
    UNROLL for (int m = 0; m < rows; m++) {
      const int8_t *const at = a + m * stride + 32 / bits * i;
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
INLINE void add_halves(const RoundedRows *x, const Piece *piece, const Panel *panel, Sums sums,
                       int bits, int block, int extras, int rows, int from, int count) {
  const int words = block * bits / 32;
  __m256 acc[halves][GROUP_ROWS];
  UNROLL for (int i = 0; i < count; i++) {
    UNROLL for (int m = 0; m < rows; m++) acc[i][m] = _mm256_load_ps(sums[m] + (from + i) * lanes);
  }
  for (size_t b = piece->from; b < piece->to; b++) {
    const size_t slot = b - piece->from;
    const int8_t *const a = x->values + b * block;
    if (from == 0) fetch_next(piece, slot, block * bits / 8);
    UNROLL for (int i = 0; i < count; i++) {
      const int half = from + i;
      const uint32_t *const word = panel->words[slot * words] + half * lanes;
      __m256i sum[GROUP_ROWS];
      UNROLL for (int m = 0; m < rows; m++) sum[m] = start_of(x, b, m, bits);
      for (int place = 0; place < block; place += 32) {
        add_places(word + place * bits / 32 * tile_columns, a + place, x->stride, bits, rows, sum);
      }
      UNROLL for (int m = 0; m < rows; m++) {
        acc[i][m] = add_scaled(sum[m], x, b, m, panel, slot, half, extras, acc[i][m]);
      }
    }
  }
  UNROLL for (int i = 0; i < count; i++) {
    UNROLL for (int m = 0; m < rows; m++) _mm256_store_ps(sums[m] + (from + i) * lanes, acc[i][m]);
  }
}

INLINE void add_from_panel(const Matrix *w, const RoundedRows *x, const Piece *piece,
                           const Panel *panel, Sums sums, int bits, int block, int extras,
                           int rows) {
  (void)w;
  if (rows <= 2) {
    add_halves(x, piece, panel, sums, bits, block, extras, rows, 0, halves);
    return;
  }
  for (int half = 0; half < halves; half++) {
    add_halves(x, piece, panel, sums, bits, block, extras, rows, half, 1);
  }
}

/** Sums of two adjacent lanes of a, then of b, in each half; `are_small`: they fit into 16 bits. */
INLINE __m256i add_lanes(__m256i a, __m256i b, int are_small) {
  if (!are_small) return _mm256_hadd_epi32(a, b);
  return _mm256_madd_epi16(_mm256_packs_epi32(a, b), _mm256_set1_epi16(1));
}

/** Sums of each column's lanes: of all (blocks 1), or of both halves; of 8 columns a vector. */
INLINE void sum_columns(const __m256i *v, int are_small, int blocks, __m256i (*sums)[halves]) {
  UNROLL for (int half = 0; half < halves; half++) {
    __m256i fours[2];
    UNROLL for (int i = 0; i < 2; i++) {
      const __m256i *const of = v + half * lanes + 4 * i;
      const __m256i low = add_lanes(of[0], of[1], are_small);
      fours[i] = _mm256_hadd_epi32(low, add_lanes(of[2], of[3], are_small));
    }
    const __m256i first = _mm256_permute2x128_si256(fours[0], fours[1], 0x20);
    const __m256i second = _mm256_permute2x128_si256(fours[0], fours[1], 0x31);
    sums[0][half] = blocks == 1 ? _mm256_add_epi32(first, second) : first;
    if (blocks == 2) sums[1][half] = second;
  }
}

/** 32 or 64 values as a vector of weights meets them; of 4 bits: even places, then odd ones. */
INLINE void read_row(const int8_t *a, int bits, __m256i *to) {
  to[0] = _mm256_loadu_si256((const __m256i *)a);
  if (bits == 8) return;
  const __m256i next = _mm256_loadu_si256((const __m256i *)(a + 32));
  const __m256 first = _mm256_castsi256_ps(to[0]), second = _mm256_castsi256_ps(next);
  // Words 0 and 2, or 1 and 3, of each quarter; then quarters in order.
  const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(first, second, 0x88));
  const __m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(first, second, 0xdd));
  to[0] = _mm256_permute4x64_epi64(even, 0xd8);
  to[1] = _mm256_permute4x64_epi64(odd, 0xd8);
}

INLINE void add_from_memory(const Matrix *w, const RoundedRows *x, const Piece *piece,
                            const Panel *panel, Sums sums, int bits, int block, int extras,
                            int rows) {
  // One to four vectors of a column at once: a block of it, or two.
  const int bytes = block * bits / 8, at_once = bytes < 32 ? 32 : bytes;
  const int blocks = at_once / bytes, vectors = at_once / 32, parts = 8 / bits;
  const size_t stride = w->blocks * bytes, columns = piece->last - piece->first;
  const uint8_t *p = w->data + piece->first * stride + piece->from * bytes;
  for (size_t b = piece->from; b < piece->to; b += blocks, p += at_once) {
    const int left = piece->to - b < (size_t)blocks ? (int)(piece->to - b) : blocks;
    for (int i = 0; i < left; i++) fetch_next(piece, b + i - piece->from, bytes);
    __m256i row[few_rows][4][2], dots[few_rows][tile_columns];
    UNROLL for (int m = 0; m < rows; m++) {
      const int8_t *const a = x->values + m * x->stride + b * block;
      UNROLL for (int i = 0; i < vectors; i++) read_row(a + 32 * parts * i, bits, row[m][i]);
    }
    UNROLL_COLUMNS for (size_t c = 0; c < tile_columns; c++) {
      const uint8_t *const q = p + (c < columns ? c : columns - 1) * stride;
      __m256i pairs[few_rows];
      UNROLL for (int i = 0; i < vectors; i++) {
        __m256i v[2] = {read_words(q + 32 * i, left == blocks ? lanes : lanes / 2)};
        if (bits == 4) split(v[0], v);
        UNROLL for (int m = 0; m < rows; m++) {
          if (bits == 4) {
            // 4 · 2 · 15 · 127 stays within 16 bits.
            const __m256i even = _mm256_maddubs_epi16(v[0], row[m][i][0]);
            const __m256i both = _mm256_add_epi16(even, _mm256_maddubs_epi16(v[1], row[m][i][1]));
            pairs[m] = i == 0 ? both : _mm256_add_epi16(pairs[m], both);
          } else {
            const __m256i sum = i == 0 ? _mm256_setzero_si256() : dots[m][c];
            dots[m][c] = add_pairs(sum, multiply_centred(v[0], row[m][i][0]));
          }
        }
      }
      UNROLL for (int m = 0; m < rows && bits == 4; m++) {
        dots[m][c] = _mm256_madd_epi16(pairs[m], _mm256_set1_epi16(1));
      }
    }
    UNROLL for (int m = 0; m < rows; m++) {
      __m256i sum[2][halves];
      sum_columns(dots[m], bits == 4, blocks, sum);
      for (int i = 0; i < left; i++) {
        UNROLL for (int half = 0; half < halves; half++) {
          float *const to = sums[m] + half * lanes;
          const __m256i whole = _mm256_add_epi32(sum[i][half], start_of(x, b + i, m, bits));
          const size_t slot = b + i - piece->from;
          const __m256 acc = _mm256_load_ps(to);
          _mm256_store_ps(to, add_scaled(whole, x, b + i, m, panel, slot, half, extras, acc));
        }
      }
    }
  }
}

#define NAME "avx2"
#define TILES tiles_avx2
#include "tile_table.h"
