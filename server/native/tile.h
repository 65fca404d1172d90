// The inner loops of a product, included once for each kind of processor: TILES names the table, and
// DOT4 and DOT8 say how a block of weights meets a block of activations.

#include "tile_parts.h"

INLINE void unpack4(const uint8_t *p, int block, __m256i *w) {
  const __m256i low = _mm256_set1_epi8(15);
  UNROLL for (int v = 0; v < block / 64; v++) {
    const __m256i bytes = _mm256_loadu_si256((const __m256i *)(p + 32 * v));
    w[2 * v] = _mm256_and_si256(bytes, low);
    w[2 * v + 1] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
  }
}

INLINE void unpack8(const uint8_t *p, int block, __m256i *w) {
  UNROLL for (int v = 0; v < block / 32; v++) {
    w[v] = _mm256_loadu_si256((const __m256i *)(p + 32 * v));
  }
}

/** Fetches what comes `ahead` of a block of weights. */
INLINE void fetch(const uint8_t *p, size_t ahead, size_t blob) {
  for (size_t line = 0; line < blob; line += 64) {
    _mm_prefetch((const char *)p + ahead + line, _MM_HINT_T0);
  }
}

/** Adds what block b of column n lies too high by. */
INLINE void add_high(const Matrix *w, int bits, Offsets offsets, size_t n, size_t b,
                     const float *sums, __m256 *zero) {
  if (bits == 8 && offsets == no_offsets) return;
  const float high = too_high(w, bits, offsets, n, b, w->scales[n * w->blocks + b]);
  *zero = _mm256_fmadd_ps(_mm256_set1_ps(high), _mm256_load_ps(sums + b * GROUP_ROWS), *zero);
}

/** Adds blocks [from, to) of column n times those of each row. */
INLINE void add_blocks(const Matrix *w, const RoundedRows *x, int bits, int block, int rows,
                       Offsets offsets, size_t n, size_t from, size_t to, size_t ahead,
                       __m256 *acc, __m256 *zero) {
  enum { few = 4 }; // rows; with more, registers are short, and what lies too high comes last
  const size_t blob = (size_t)block * bits / 8, first = n * w->blocks + from;
  // Pointers that advance take fewer instructions than places that are worked out.
  const uint8_t *p = w->data + first * blob;
  const float *scale = w->scales + first, *own = x->scales + from * GROUP_ROWS;
  const int8_t *a = x->values + from * rows * block;
  const __m256i *centres = (const __m256i *)x->offsets + from * rows;
  for (size_t b = from; b < to; b++) {
    fetch(p, ahead, blob);
    float scales[GROUP_ROWS] __attribute__((aligned(32)));
    if (rows == 1) scales[0] = *scale * *own;
    else _mm256_store_ps(scales, _mm256_mul_ps(_mm256_broadcast_ss(scale), _mm256_load_ps(own)));
    __m256i v[4];
    if (bits == 4) unpack4(p, block, v);
    else unpack8(p, block, v);
    UNROLL for (int m = 0; m < rows; m++) {
      const int8_t *row = a + m * block;
      const __m256i dot = bits == 4 ? DOT4(v, row, block / 32)
                                    : DOT8(v, row, block / 32, centres + m);
      const __m256 by = rows == 1 ? _mm256_set1_ps(scales[0]) : _mm256_broadcast_ss(scales + m);
      acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), by, acc[m]);
    }
    if (rows <= few) add_high(w, bits, offsets, n, b, x->sums, zero);
    p += blob, scale++, own += GROUP_ROWS, a += rows * block, centres += rows;
  }
  for (size_t b = from; rows > few && b < to; b++) add_high(w, bits, offsets, n, b, x->sums, zero);
}

/** Adds blocks b and b + 1 of 32 with 4 bits, or b alone at the end of a column. */
INLINE void add_pair(const Matrix *w, const RoundedRows *x, int rows, Offsets offsets, size_t n,
                     size_t b, __m256 *acc, __m256 *zero) {
  const uint8_t *p = w->data + (n * w->blocks + b) * 16;
  const float *scales = w->scales + n * w->blocks + b;
  const int is_whole = b + 1 < w->blocks;
  const __m128i first = _mm_loadu_si128((const __m128i *)p);
  const __m128i second =
      is_whole ? _mm_loadu_si128((const __m128i *)(p + 16)) : _mm_setzero_si128();
  const __m256i bytes = _mm256_set_m128i(second, first), low = _mm256_set1_epi8(15);
  const __m256i v[2] = {_mm256_and_si256(bytes, low),
                        _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low)};
  const __m256 own = _mm256_set_m128(_mm_set1_ps(is_whole ? scales[1] : 0), _mm_set1_ps(scales[0]));
  const int8_t *a = x->values + b / 2 * rows * 64;
  const float *lanes = x->lanes + b / 2 * rows * 8;
  UNROLL for (int m = 0; m < rows; m++) {
    const __m256 product = _mm256_cvtepi32_ps(DOT4(v, a + m * 64, 2));
    const __m256 scale = _mm256_mul_ps(own, _mm256_load_ps(lanes + m * 8));
    acc[m] = _mm256_fmadd_ps(product, scale, acc[m]);
  }
  const float *sums = x->sums + b * GROUP_ROWS;
  const __m256 high = _mm256_set1_ps(too_high(w, 4, offsets, n, b, scales[0]));
  __m256 off = _mm256_mul_ps(high, _mm256_load_ps(sums));
  if (is_whole) {
    const __m256 other = _mm256_set1_ps(too_high(w, 4, offsets, n, b + 1, scales[1]));
    off = _mm256_fmadd_ps(other, _mm256_load_ps(sums + GROUP_ROWS), off);
  }
  *zero = _mm256_add_ps(*zero, off);
}

/** As many blocks of the activations as stay in the first cache; all columns go through them first. */
INLINE void multiply_tile(const Matrix *w, const RoundedRows *x, int bits, int block, int rows,
                          Offsets offsets, size_t first, size_t last, float *y) {
  const size_t blob = (size_t)block * bits / 8;
  const size_t fitting = chunk_bytes / ((size_t)rows * block);
  const size_t step = bits == 4 && block == 32 ? 2 : 1;
  const size_t at_once = fitting > step ? fitting / step * step : step;
  // In chunks, the same piece of the next column comes next.
  const size_t ahead = at_once < w->blocks ? w->blocks * blob : prefetch_bytes;
  __m256 kept[tile_columns][GROUP_ROWS + 1];
  for (size_t from = 0; from < w->blocks; from += at_once) {
    const size_t to = from + at_once < w->blocks ? from + at_once : w->blocks;
    for (size_t n = first; n < last; n++) {
      __m256 acc[GROUP_ROWS];
      __m256 *const keep = kept[n - first];
      const __m256 none = _mm256_setzero_ps();
      __m256 zero = from == 0 ? none : keep[GROUP_ROWS];
      UNROLL for (int m = 0; m < rows; m++) acc[m] = from == 0 ? none : keep[m];
      if (step == 1) add_blocks(w, x, bits, block, rows, offsets, n, from, to, ahead, acc, &zero);
      for (size_t b = from; step == 2 && b < to; b += step) {
        fetch(w->data + (n * w->blocks + b) * blob, ahead, blob);
        add_pair(w, x, rows, offsets, n, b, acc, &zero);
      }
      if (to == w->blocks) {
        float sums[GROUP_ROWS] __attribute__((aligned(32)));
        _mm256_store_ps(sums, _mm256_sub_ps(sum_lanes(acc, rows), zero));
        UNROLL for (int m = 0; m < rows; m++) y[m * w->outer + n] = sums[m];
      } else {
        UNROLL for (int m = 0; m < rows; m++) keep[m] = acc[m];
        keep[GROUP_ROWS] = zero;
      }
    }
  }
}

#include "tile_table.h"
