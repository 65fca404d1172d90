// Products of many rows with 4 bits on AVX2: some columns are unpacked once for several groups. Each
// sum is that of tile.h, in its order, so the bits are equal. Included by tile_avx2.c, after tile.h.

/** Of how many integers a step of a column consists: of a block, or of two blocks of 32. */
INLINE size_t step_width(int block) { return block == 32 ? 64 : (size_t)block; }

INLINE size_t steps_of(const Matrix *w, int block) {
  return block == 32 ? (w->blocks + 1) / 2 : w->blocks;
}

/** One column into slot c: its bytes, what lies too high and, of pairs, both scales four times. */
INLINE void unpack_column(const Matrix *w, int block, Offsets offsets, size_t n, size_t c,
                          const Panel *to) {
  const size_t steps = steps_of(w, block), width = step_width(block), a_step = width / block;
  const float *scales = w->scales + n * w->blocks;
  for (size_t s = 0; s < steps; s++) {
    uint8_t packed[64] __attribute__((aligned(32)));
    const size_t left = (w->blocks - s * a_step) * block / 2, bytes = width / 2;
    const uint8_t *from = w->data + (n * w->blocks + s * a_step) * (block / 2);
    if (left < bytes) {
      memset(packed, 0, sizeof packed);
      from = memcpy(packed, from, left);
    }
    __m256i v[4];
    unpack4(from, (int)width, v);
    uint8_t *at = to->bytes + (c * steps + s) * width;
    UNROLL for (size_t i = 0; i < width / 32; i++) _mm256_store_si256((__m256i *)at + i, v[i]);
    if (block != 32) continue;
    const float second = 2 * s + 1 < w->blocks ? scales[2 * s + 1] : 0;
    const __m256 lanes = _mm256_set_m128(_mm_set1_ps(second), _mm_set1_ps(scales[2 * s]));
    _mm256_store_ps(to->lanes + (c * steps + s) * 8, lanes);
  }
  for (size_t b = 0; b < w->blocks; b++) {
    to->highs[c * w->blocks + b] = too_high(w, 4, offsets, n, b, scales[b]);
  }
}

INLINE void unpack_columns(const Matrix *w, int block, size_t first, size_t last,
                           const Panel *to) {
  for (size_t n = first; n < last; n++) {
    if (block == 32 && w->mins) unpack_column(w, block, float_mins, n, n - first, to);
    else if (w->zeros) unpack_column(w, block, integer_zeros, n, n - first, to);
    else unpack_column(w, block, no_offsets, n, n - first, to);
  }
}

/** What the rows' sums lie too high by. */
INLINE __m256 sum_highs(const RoundedRows *x, int block, const float *highs, size_t blocks) {
  __m256 zero = _mm256_setzero_ps();
  size_t b = 0;
  for (; block == 32 && b + 1 < blocks; b += 2) {
    const float *sums = x->sums + b * GROUP_ROWS;
    const __m256 off = _mm256_mul_ps(_mm256_broadcast_ss(highs + b), _mm256_load_ps(sums));
    const __m256 next = _mm256_load_ps(sums + GROUP_ROWS);
    zero = _mm256_add_ps(zero, _mm256_fmadd_ps(_mm256_broadcast_ss(highs + b + 1), next, off));
  }
  for (; b < blocks; b++) {
    const __m256 high = _mm256_broadcast_ss(highs + b);
    const __m256 sums = _mm256_load_ps(x->sums + b * GROUP_ROWS);
    if (block == 32) zero = _mm256_add_ps(zero, _mm256_mul_ps(high, sums));
    else zero = _mm256_fmadd_ps(high, sums, zero);
  }
  return zero;
}

/** Adds steps [from, to) of column n, which is in slot c, times those of each row. */
INLINE void add_steps(const Matrix *w, const RoundedRows *x, int block, const Panel *panel,
                      size_t n, size_t c, size_t from, size_t to, __m256 *acc) {
  enum { rows = GROUP_ROWS };
  const size_t width = step_width(block), slot = c * steps_of(w, block) + from;
  const uint8_t *p = panel->bytes + slot * width;
  const int8_t *a = x->values + from * rows * width;
  // Of pairs, both sides' scales lie in lanes; else a column's are in W, and rows' side by side.
  const float *own = block == 32 ? panel->lanes + slot * 8 : w->scales + n * w->blocks + from;
  const float *theirs = block == 32 ? x->lanes + from * rows * 8 : x->scales + from * rows;
  for (size_t s = from; s < to; s++) {
    float scales[rows] __attribute__((aligned(32)));
    const __m256 scale = block == 32 ? _mm256_load_ps(own) : _mm256_broadcast_ss(own);
    if (block != 32) _mm256_store_ps(scales, _mm256_mul_ps(scale, _mm256_load_ps(theirs)));
    __m256i v[4];
    UNROLL for (size_t i = 0; i < width / 32; i++) v[i] = _mm256_load_si256((const __m256i *)p + i);
    UNROLL for (int m = 0; m < rows; m++) {
      const __m256 product = _mm256_cvtepi32_ps(DOT4(v, a + m * width, (int)width / 32));
      const __m256 both = block == 32 ? _mm256_mul_ps(scale, _mm256_load_ps(theirs + m * 8))
                                      : _mm256_broadcast_ss(scales + m);
      acc[m] = _mm256_fmadd_ps(product, both, acc[m]);
    }
    p += width;
    a += rows * width;
    own += block == 32 ? 8 : 1;
    theirs += block == 32 ? rows * 8 : rows;
  }
}

/** A full group with columns [first, last) of the panel, to y. */
INLINE void multiply_panel(const Matrix *w, const RoundedRows *x, int block, const Panel *panel,
                           size_t first, size_t last, float *y) {
  enum { rows = GROUP_ROWS };
  const size_t steps = steps_of(w, block), at_once = chunk_bytes / (rows * step_width(block));
  __m256 kept[tile_columns][rows];
  for (size_t from = 0; from < steps; from += at_once) {
    const size_t to = from + at_once < steps ? from + at_once : steps;
    for (size_t n = first; n < last; n++) {
      const size_t c = n - first;
      __m256 acc[rows];
      UNROLL for (int m = 0; m < rows; m++) acc[m] = from ? kept[c][m] : _mm256_setzero_ps();
      add_steps(w, x, block, panel, n, c, from, to, acc);
      if (to < steps) {
        UNROLL for (int m = 0; m < rows; m++) kept[c][m] = acc[m];
        continue;
      }
      const __m256 zero = sum_highs(x, block, panel->highs + c * w->blocks, w->blocks);
      float sums[rows] __attribute__((aligned(32)));
      _mm256_store_ps(sums, _mm256_sub_ps(sum_lanes(acc, rows), zero));
      UNROLL for (int m = 0; m < rows; m++) y[m * w->outer + n] = sums[m];
    }
  }
}

#define PANEL(block)                                                                          \
  static void unpack_##block(const Matrix *w, size_t first, size_t last, const Panel *to) {   \
    unpack_columns(w, block, first, last, to);                                                \
  }                                                                                           \
  static void panel_##block(const Matrix *w, const RoundedRows *x, const Panel *panel,        \
                            size_t first, size_t last, float *y) {                            \
    multiply_panel(w, x, block, panel, first, last, y);                                       \
  }
PANEL(32) PANEL(64) PANEL(128)

const PanelProduct panels_avx2[3] = {
    {unpack_32, panel_32}, {unpack_64, panel_64}, {unpack_128, panel_128}};
