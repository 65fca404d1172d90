// Products on processors with AVX-512's VNNI, in vectors of 512 bits: two columns side by side. Each
// half computes what tile.h computes in a vector of 256 bits, in the same order, so the bits are equal.

#include "tile_parts.h"

INLINE __m512i both(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
INLINE __m512 both_floats(__m256 low, __m256 high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
INLINE __m512i twice(const void *at) {
  return _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)at));
}
INLINE __m256i bytes_at(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }

/** Even places, then odd ones, of 64 integers of 4 bits in each half. */
INLINE void split(__m512i bytes, __m512i *w) {
  const __m512i low = _mm512_set1_epi8(15);
  w[0] = _mm512_and_si512(bytes, low);
  w[1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
}

/** Sums of four adjacent products in each lane, on top of `sum`. */
INLINE __m512i dot(const __m512i *w, const int8_t *a, int vectors, __m512i sum) {
  UNROLL for (int v = 0; v < vectors; v++) sum = _mm512_dpbusd_epi32(sum, w[v], twice(a + 32 * v));
  return sum;
}

/** Two columns; a lone last one is there twice. */
typedef struct {
  size_t n[2];
} Columns;

/** Adds block b of both columns times the block of each row. */
INLINE void add_block(const Matrix *w, const RoundedRows *x, int bits, int block, int rows,
                      Offsets offsets, Columns of, size_t b, __m512 *acc, __m256 *zero) {
  const size_t blob = (size_t)block * bits / 8;
  const size_t at[2] = {of.n[0] * w->blocks + b, of.n[1] * w->blocks + b};
  const uint8_t *p = w->data + at[0] * blob, *q = w->data + at[1] * blob;
  const int8_t *a = x->values + b * rows * block;
  const float *own = x->scales + b * GROUP_ROWS;
  const int32_t *centres = x->offsets + b * rows * 8;
  const __m512 scale =
      both_floats(_mm256_set1_ps(w->scales[at[0]]), _mm256_set1_ps(w->scales[at[1]]));
  __m512i v[4];
  UNROLL for (int i = 0; i < block / 32; i += bits == 4 ? 2 : 1) {
    const size_t from = bits == 4 ? 16 * i : 32 * i;
    const __m512i bytes = both(bytes_at(p + from), bytes_at(q + from));
    if (bits == 4) split(bytes, v + i);
    else v[i] = bytes;
  }
  UNROLL for (int m = 0; m < rows; m++) {
    const __m512i start = bits == 8 ? twice(centres + 8 * m) : _mm512_setzero_si512();
    const __m512 product = _mm512_cvtepi32_ps(dot(v, a + m * block, block / 32, start));
    acc[m] = _mm512_fmadd_ps(product, _mm512_mul_ps(scale, _mm512_set1_ps(own[m])), acc[m]);
  }
  if (bits == 8 && offsets == no_offsets) return;
  const __m256 sums = _mm256_load_ps(x->sums + b * GROUP_ROWS);
  UNROLL for (int c = 0; c < 2; c++) {
    const __m256 high = _mm256_set1_ps(too_high(w, bits, offsets, of.n[c], b, w->scales[at[c]]));
    zero[c] = _mm256_fmadd_ps(high, sums, zero[c]);
  }
}

/** Adds blocks b and b + 1 of 32 with 4 bits, or b alone at the end of a column. */
INLINE void add_pair(const Matrix *w, const RoundedRows *x, int rows, Offsets offsets, Columns of,
                     size_t b, __m512 *acc, __m256 *zero) {
  const int is_whole = b + 1 < w->blocks;
  const float *sums = x->sums + b * GROUP_ROWS;
  __m256i bytes[2];
  __m256 own[2];
  UNROLL for (int c = 0; c < 2; c++) {
    const size_t at = of.n[c] * w->blocks + b;
    const __m128i *p = (const __m128i *)(w->data + at * 16);
    const __m128i second = is_whole ? _mm_loadu_si128(p + 1) : _mm_setzero_si128();
    bytes[c] = _mm256_set_m128i(second, _mm_loadu_si128(p));
    const __m128 other = _mm_set1_ps(is_whole ? w->scales[at + 1] : 0);
    own[c] = _mm256_set_m128(other, _mm_set1_ps(w->scales[at]));
    const __m256 high = _mm256_set1_ps(too_high(w, 4, offsets, of.n[c], b, w->scales[at]));
    __m256 off = _mm256_mul_ps(high, _mm256_load_ps(sums));
    if (is_whole) {
      const float next = too_high(w, 4, offsets, of.n[c], b + 1, w->scales[at + 1]);
      off = _mm256_fmadd_ps(_mm256_set1_ps(next), _mm256_load_ps(sums + GROUP_ROWS), off);
    }
    zero[c] = _mm256_add_ps(zero[c], off);
  }
  __m512i v[2];
  split(both(bytes[0], bytes[1]), v);
  const __m512 scales = both_floats(own[0], own[1]);
  const int8_t *a = x->values + b / 2 * rows * 64;
  const float *lanes = x->lanes + b / 2 * rows * 8;
  UNROLL for (int m = 0; m < rows; m++) {
    const __m512 product = _mm512_cvtepi32_ps(dot(v, a + m * 64, 2, _mm512_setzero_si512()));
    const __m512 row = _mm512_castsi512_ps(twice(lanes + m * 8));
    acc[m] = _mm512_fmadd_ps(product, _mm512_mul_ps(scales, row), acc[m]);
  }
}

/** The two columns' products, to y at each. */
INLINE void write_columns(const Matrix *w, int rows, Columns of, const __m512 *acc,
                          const __m256 *zero, float *y) {
  __m256 halves[2][GROUP_ROWS];
  UNROLL for (int m = 0; m < rows; m++) {
    halves[0][m] = _mm512_castps512_ps256(acc[m]);
    halves[1][m] = _mm512_extractf32x8_ps(acc[m], 1);
  }
  UNROLL for (int c = 0; c < 2; c++) {
    float sums[GROUP_ROWS] __attribute__((aligned(32)));
    _mm256_store_ps(sums, _mm256_sub_ps(sum_lanes(halves[c], rows), zero[c]));
    UNROLL for (int m = 0; m < rows; m++) y[m * w->outer + of.n[c]] = sums[m];
  }
}

/** As many blocks of the activations as stay in the first cache; all columns go through them first. */
INLINE void multiply_tile(const Matrix *w, const RoundedRows *x, int bits, int block, int rows,
                          Offsets offsets, size_t first, size_t last, float *y) {
  const size_t blob = (size_t)block * bits / 8;
  const size_t fitting = chunk_bytes / ((size_t)rows * block);
  const size_t step = bits == 4 && block == 32 ? 2 : 1;
  const size_t at_once = fitting > step ? fitting / step * step : step;
  // In chunks, the same piece of the next two columns comes next.
  const size_t ahead = at_once < w->blocks ? 2 * w->blocks * blob : prefetch_bytes;
  __m512 kept[tile_columns / 2][GROUP_ROWS];
  __m256 kept_zero[tile_columns / 2][2];
  for (size_t from = 0; from < w->blocks; from += at_once) {
    const size_t to = from + at_once < w->blocks ? from + at_once : w->blocks;
    for (size_t n = first; n < last; n += 2) {
      const Columns of = {{n, n + 1 < last ? n + 1 : n}};
      const size_t slot = (n - first) / 2;
      __m512 acc[GROUP_ROWS];
      __m256 zero[2];
      UNROLL for (int m = 0; m < rows; m++) acc[m] = from ? kept[slot][m] : _mm512_setzero_ps();
      UNROLL for (int c = 0; c < 2; c++) zero[c] = from ? kept_zero[slot][c] : _mm256_setzero_ps();
      for (size_t b = from; b < to; b += step) {
        UNROLL for (int c = 0; c < 2; c++) {
          const uint8_t *next = w->data + (of.n[c] * w->blocks + b) * blob + ahead;
          for (size_t line = 0; line < blob; line += 64) {
            _mm_prefetch((const char *)next + line, _MM_HINT_T0);
          }
        }
        if (step == 2) add_pair(w, x, rows, offsets, of, b, acc, zero);
        else add_block(w, x, bits, block, rows, offsets, of, b, acc, zero);
      }
      if (to == w->blocks) {
        write_columns(w, rows, of, acc, zero, y);
      } else {
        UNROLL for (int m = 0; m < rows; m++) kept[slot][m] = acc[m];
        UNROLL for (int c = 0; c < 2; c++) kept_zero[slot][c] = zero[c];
      }
    }
  }
}

#define TILES tiles_vnni
#include "tile_table.h"
