#include "product.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define AVX2 __attribute__((target("avx2,fma")))
#define UNROLL _Pragma("GCC unroll 8")

enum {
  alignment = 64,
  /** Bytes of a group's activations that are gone through for some columns before the next. */
  chunk_bytes = 16 << 10,
  /** Columns that share one pass over a chunk of activations. */
  tile_columns = 16,
  /** How far ahead of its use a weight is fetched. */
  prefetch_bytes = 1 << 10,
};

int can_multiply(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

int can_multiply_blocks(int bits, int block) {
  return (bits == 4 || bits == 8) && (block == 32 || block == 64 || block == 128);
}

static size_t aligned(size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

size_t rounded_bytes(const Matrix *w) {
  size_t floats = w->blocks * GROUP_ROWS * sizeof(float);
  return aligned(w->blocks * GROUP_ROWS * w->block) + 2 * aligned(floats);
}

RoundedRows rounded_at(const Matrix *w, void *memory) {
  char *at = memory;
  size_t floats = w->blocks * GROUP_ROWS * sizeof(float);
  RoundedRows rows = {.values = (int8_t *)at};
  at += aligned(w->blocks * GROUP_ROWS * w->block);
  rows.scales = (float *)at;
  rows.sums = (float *)(at + aligned(floats));
  return rows;
}

AVX2 INLINE float largest_lane(__m256 v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

AVX2 INLINE int sum_bytes(const __m256i *v, int vectors) {
  const __m256i one = _mm256_set1_epi16(1);
  __m256i sum = _mm256_setzero_si256();
  for (int i = 0; i < vectors; i++) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), v[i]);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, one));
  }
  __m128i x = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

/** 32 floats times `inverse`, rounded to the nearest (ties to even), in order. */
AVX2 INLINE __m256i round_32(const float *x, __m256 inverse) {
  __m256i q[4];
  UNROLL for (int i = 0; i < 4; i++) {
    q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inverse));
  }
  const __m256i halves =
      _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  return _mm256_permutevar8x32_epi32(halves, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/** The even bytes, then the odd ones. */
AVX2 INLINE __m256i split_places(__m256i v) {
  const __m256i order =
      _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12,
                       14, 1, 3, 5, 7, 9, 11, 13, 15);
  return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(v, order), 0xd8);
}

AVX2 INLINE void round_block(const float *x, int bits, int block, int8_t *to, float *scale,
                             float *sum) {
  const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 size = _mm256_setzero_ps();
  for (int i = 0; i < block; i += 8) {
    size = _mm256_max_ps(size, _mm256_and_ps(no_sign, _mm256_loadu_ps(x + i)));
  }
  const float largest = largest_lane(size);
  const __m256 inverse = _mm256_set1_ps(largest > 0 ? 127 / largest : 0);
  __m256i q[4];
  for (int i = 0; i < block / 32; i++) {
    q[i] = round_32(x + 32 * i, inverse);
    if (bits == 4) q[i] = split_places(q[i]);
  }
  *scale = largest / 127;
  *sum = *scale * (float)sum_bytes(q, block / 32);
  for (int i = 0; bits == 4 && i + 1 < block / 32; i += 2) {
    const __m256i even = _mm256_permute2x128_si256(q[i], q[i + 1], 0x20);
    q[i + 1] = _mm256_permute2x128_si256(q[i], q[i + 1], 0x31);
    q[i] = even;
  }
  for (int i = 0; i < block / 32; i++) _mm256_store_si256((__m256i *)(to + 32 * i), q[i]);
}

AVX2 void round_rows(const Matrix *w, const float *x, int rows, RoundedRows to) {
  for (size_t b = 0; b < w->blocks; b++) {
    const size_t start = b * w->block;
    const size_t left = w->inner - start;
    const int count = left < (size_t)w->block ? (int)left : w->block;
    for (int m = 0; m < rows; m++) {
      const float *from = x + m * w->inner + start;
      float padded[128];
      if (count < w->block) {
        memset(padded, 0, sizeof padded);
        from = memcpy(padded, from, count * sizeof(float));
      }
      int8_t *values = to.values + (b * rows + m) * w->block;
      float *scale = to.scales + b * GROUP_ROWS + m;
      float *sum = to.sums + b * GROUP_ROWS + m;
      switch (w->bits * 1000 + w->block) {
        case 4032: round_block(from, 4, 32, values, scale, sum); break;
        case 4064: round_block(from, 4, 64, values, scale, sum); break;
        case 4128: round_block(from, 4, 128, values, scale, sum); break;
        case 8032: round_block(from, 8, 32, values, scale, sum); break;
        case 8064: round_block(from, 8, 64, values, scale, sum); break;
        default: round_block(from, 8, 128, values, scale, sum);
      }
    }
    for (int m = rows; m < GROUP_ROWS; m++) {
      to.scales[b * GROUP_ROWS + m] = 0;
      to.sums[b * GROUP_ROWS + m] = 0;
    }
  }
}

/** Sum of each row's eight lanes, in one order whatever `rows` is. */
AVX2 INLINE __m256 sum_lanes(const __m256 *acc, int rows) {
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

/** Sums of products of a block of weights and one of activations, in eight lanes. */
AVX2 INLINE __m256i dot4(const __m256i *w, const int8_t *a, int vectors) {
  __m256i sum = _mm256_maddubs_epi16(w[0], _mm256_load_si256((const __m256i *)a));
  UNROLL for (int v = 1; v < vectors; v++) {
    const __m256i more =
        _mm256_maddubs_epi16(w[v], _mm256_load_si256((const __m256i *)(a + 32 * v)));
    sum = _mm256_add_epi16(sum, more);
  }
  return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

AVX2 INLINE void unpack4(const uint8_t *p, int block, __m256i *w) {
  const __m256i low = _mm256_set1_epi8(15);
  if (block == 32) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    w[0] = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), low);
    return;
  }
  UNROLL for (int v = 0; v < block / 64; v++) {
    const __m256i bytes = _mm256_loadu_si256((const __m256i *)(p + 32 * v));
    w[2 * v] = _mm256_and_si256(bytes, low);
    w[2 * v + 1] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
  }
}

/** |w| and w, from integers around `zero`. */
AVX2 INLINE void unpack8(const uint8_t *p, int block, __m256i zero, __m256i *w, __m256i *size) {
  UNROLL for (int v = 0; v < block / 32; v++) {
    const __m256i bytes = _mm256_loadu_si256((const __m256i *)(p + 32 * v));
    w[v] = _mm256_xor_si256(bytes, zero);
    size[v] = _mm256_abs_epi8(w[v]);
  }
}

AVX2 INLINE __m256i dot8(const __m256i *w, const __m256i *size, const int8_t *a, int vectors) {
  const __m256i one = _mm256_set1_epi16(1);
  __m256i sum;
  UNROLL for (int v = 0; v < vectors; v++) {
    const __m256i signs = _mm256_sign_epi8(_mm256_load_si256((const __m256i *)(a + 32 * v)), w[v]);
    const __m256i more = _mm256_madd_epi16(_mm256_maddubs_epi16(size[v], signs), one);
    sum = v == 0 ? more : _mm256_add_epi32(sum, more);
  }
  return sum;
}

INLINE int zero_of(const Matrix *w, int bits, size_t n, size_t b) {
  if (bits == 8) return w->zeros[n * w->blocks + b];
  return w->zeros[n * ((w->blocks + 1) / 2) + b / 2] >> (b % 2 * 4) & 15;
}

/** Blocks [from, to) of `columns` columns for one group; `sums` [tile_columns][rows] between chunks. */
AVX2 INLINE void multiply_tile(const Matrix *w, const RoundedRows *x, int bits, int block, int rows,
                               size_t first, size_t last, float *y) {
  const size_t blocks = w->blocks;
  const size_t blob = (size_t)block * bits / 8;
  size_t at_once = chunk_bytes / ((size_t)rows * block);
  if (at_once == 0) at_once = 1;
  __m256 kept[tile_columns][GROUP_ROWS];
  __m256 kept_fix[tile_columns];
  for (size_t from = 0; from < blocks; from += at_once) {
    const size_t to = from + at_once < blocks ? from + at_once : blocks;
    for (size_t n = first; n < last; n++) {
      __m256 acc[GROUP_ROWS];
      __m256 fix;
      if (from == 0) {
        UNROLL for (int m = 0; m < rows; m++) acc[m] = _mm256_setzero_ps();
        fix = _mm256_setzero_ps();
      } else {
        UNROLL for (int m = 0; m < rows; m++) acc[m] = kept[n - first][m];
        fix = kept_fix[n - first];
      }
      const uint8_t *p = w->data + (n * blocks + from) * blob;
      const int8_t *a = x->values + from * rows * block;
      for (size_t b = from; b < to; b++, p += blob, a += rows * block) {
        for (size_t line = 0; line < blob; line += 64) {
          _mm_prefetch((const char *)p + prefetch_bytes + line, _MM_HINT_T0);
        }
        const float scale = w->scales[n * blocks + b];
        const __m256 scales =
            _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_load_ps(x->scales + b * GROUP_ROWS));
        float each[GROUP_ROWS] __attribute__((aligned(32)));
        _mm256_store_ps(each, scales);
        if (bits == 4) {
          __m256i v[4];
          unpack4(p, block, v);
          UNROLL for (int m = 0; m < rows; m++) {
            const __m256 dot = _mm256_cvtepi32_ps(dot4(v, a + m * block, block / 32));
            acc[m] = _mm256_fmadd_ps(dot, _mm256_broadcast_ss(each + m), acc[m]);
          }
          const float zero = w->zeros ? scale * (float)zero_of(w, 4, n, b) : 8 * scale;
          fix = _mm256_fmadd_ps(_mm256_set1_ps(zero), _mm256_load_ps(x->sums + b * GROUP_ROWS), fix);
        } else {
          __m256i v[4], size[4];
          unpack8(p, block, _mm256_set1_epi8((char)128), v, size);
          UNROLL for (int m = 0; m < rows; m++) {
            const __m256 dot = _mm256_cvtepi32_ps(dot8(v, size, a + m * block, block / 32));
            acc[m] = _mm256_fmadd_ps(dot, _mm256_broadcast_ss(each + m), acc[m]);
          }
          if (w->zeros) {
            const float zero = scale * (float)(zero_of(w, 8, n, b) - 128);
            fix = _mm256_fmadd_ps(_mm256_set1_ps(zero), _mm256_load_ps(x->sums + b * GROUP_ROWS),
                                  fix);
          }
        }
      }
      if (to == blocks) {
        float out[GROUP_ROWS] __attribute__((aligned(32)));
        _mm256_store_ps(out, _mm256_sub_ps(sum_lanes(acc, rows), fix));
        UNROLL for (int m = 0; m < rows; m++) y[m * w->outer + n] = out[m];
      } else {
        UNROLL for (int m = 0; m < rows; m++) kept[n - first][m] = acc[m];
        kept_fix[n - first] = fix;
      }
    }
  }
}

typedef void Tile(const Matrix *, const RoundedRows *, size_t, size_t, float *);

#define TILE(bits, block, rows)                                                              \
  AVX2 static void tile_##bits##_##block##_##rows(const Matrix *w, const RoundedRows *x,     \
                                                  size_t first, size_t last, float *y) {     \
    multiply_tile(w, x, bits, block, rows, first, last, y);                                  \
  }
#define TILES(bits, block)                                                                   \
  TILE(bits, block, 1) TILE(bits, block, 2) TILE(bits, block, 3) TILE(bits, block, 4)        \
  TILE(bits, block, 5) TILE(bits, block, 6) TILE(bits, block, 7) TILE(bits, block, 8)
TILES(4, 32) TILES(4, 64) TILES(4, 128) TILES(8, 32) TILES(8, 64) TILES(8, 128)

#define OF(bits, block)                                                                       \
  {tile_##bits##_##block##_1, tile_##bits##_##block##_2, tile_##bits##_##block##_3,           \
   tile_##bits##_##block##_4, tile_##bits##_##block##_5, tile_##bits##_##block##_6,           \
   tile_##bits##_##block##_7, tile_##bits##_##block##_8}
static Tile *const tiles[2][3][GROUP_ROWS] = {{OF(4, 32), OF(4, 64), OF(4, 128)},
                                              {OF(8, 32), OF(8, 64), OF(8, 128)}};

void multiply(const Matrix *w, const RoundedRows *groups, int rows, size_t first, size_t last,
              float *y) {
  const int size = w->block == 32 ? 0 : w->block == 64 ? 1 : 2;
  Tile *const *of = tiles[w->bits == 8][size];
  for (size_t n = first; n < last; n += tile_columns) {
    const size_t end = n + tile_columns < last ? n + tile_columns : last;
    for (int m = 0; m < rows; m += GROUP_ROWS) {
      const int count = rows - m < GROUP_ROWS ? rows - m : GROUP_ROWS;
      of[count - 1](w, groups + m / GROUP_ROWS, n, end, y + (size_t)m * w->outer);
    }
  }
}
