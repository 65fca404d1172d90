// Products on processors with AMX: one instruction multiplies eight rows of x by 16 columns, 64 integers
// of each. W lies in memory as it wants it; integers of 4 bits are spread first, once for all groups.

#include "tiles.h"

#ifdef WITHOUT_AMX // The compiler has no code for it.
static int never(void) { return 0; }
const Tiles tiles_amx = {.name = "amx-int8", .can_run = never};
#else

#include "amx.h"

#define INLINE static inline __attribute__((always_inline))

// Two of each, so that a block need not wait for the one before it.
#define SUMS_0 0
#define SUMS_1 1
#define X_0 2
#define X_1 3
#define W_0 4
#define W_1 5

enum {
  num_tiles = 6,
  /** Integers of a column, at most, that one instruction goes over. */
  step = 64,
};

/** For blocks of so many integers. */
static void begin(int block) {
  const int inner = block < step ? block : step;
  TileShapes shapes = {.palette = 1};
  for (int i = 0; i < num_tiles; i++) {
    shapes.rows[i] = i < W_0 ? GROUP_ROWS : inner / 4;
    shapes.row_bytes[i] = i == X_0 || i == X_1 ? inner : 4 * tile_columns;
  }
  tile_shapes(&shapes);
}

static void end(void) { tile_release(); }

/** Words of eight integers of 4 bits become two of four integers each: even places, then odd ones. */
INLINE void spread(const uint32_t (*words)[tile_columns], size_t count,
                   uint32_t (*to)[tile_columns]) {
  for (size_t i = 0; i < count; i++) {
    for (int c = 0; c < tile_columns; c++) to[2 * i][c] = words[i][c] & 0x0f0f0f0f;
    for (int c = 0; c < tile_columns; c++) to[2 * i + 1][c] = words[i][c] >> 4 & 0x0f0f0f0f;
  }
}

/** Adds block b's sums, scaled, and what its zero lies off, in the order of all other processors. */
INLINE void add_scaled(const int32_t (*products)[tile_columns], const RoundedRows *x, size_t b,
                       const Piece *piece, int extras, Sums sums) {
  const float *const scales = piece->scales[b - piece->from];
  const float *const extra = extras ? piece->extras[b - piece->from] : NULL;
  for (int m = 0; m < x->rows; m++) {
    const size_t at = b * GROUP_ROWS + m;
    for (int c = 0; c < tile_columns; c++) {
      const float by = scales[c] * x->scales[at];
      sums[m][c] = __builtin_fmaf((float)(products[m][c] + x->starts[at]), by, sums[m][c]);
      if (extras) sums[m][c] = __builtin_fmaf(extra[c], x->sums[at], sums[m][c]);
    }
  }
}

#define MULTIPLY_BLOCK(odd, words, a)                              \
  do {                                                             \
    tile_zero(SUMS_##odd);                                         \
    for (int i = 0; i < (block + step - 1) / step; i++) {          \
      tile_load(X_##odd, (a) + i * step, x->stride);               \
      tile_load(W_##odd, (words) + i * step / 4, sizeof *(words)); \
      tile_multiply(SUMS_##odd, X_##odd, W_##odd);                 \
    }                                                              \
  } while (0)

INLINE void add_piece(const RoundedRows *x, const Piece *piece, Sums sums, int bits, int block,
                      int extras) {
  const size_t words = (size_t)block / 4, count = piece->to - piece->from;
  const int is_kept = count * words <= 2 * piece_words;
  int32_t products[2][GROUP_ROWS][tile_columns] __attribute__((aligned(64)));
  if (bits == 4 && is_kept && !piece->is_spread) {
    spread(piece->words, count * words / 2, piece->spread);
  }
  for (size_t slot = 0; slot < count; slot += 2) {
    const size_t b = piece->from + slot;
    const int two = slot + 1 < count;
    const uint32_t(*w)[tile_columns] = piece->words + slot * words;
    if (bits == 4) w = piece->spread + (is_kept ? slot * words : 0);
    if (bits == 4 && !is_kept) {
      spread(piece->words + slot * words / 2, (1 + two) * words / 2, piece->spread);
    }
    fetch_next(piece, slot, block * bits / 8);
    MULTIPLY_BLOCK(0, w, x->values + b * block);
    if (two) {
      fetch_next(piece, slot + 1, block * bits / 8);
      MULTIPLY_BLOCK(1, w + words, x->values + (b + 1) * block);
    }
    tile_store(products[0], sizeof *products[0], SUMS_0);
    if (two) tile_store(products[1], sizeof *products[1], SUMS_1);
    for (int i = 0; i <= two; i++) {
      add_scaled((const int32_t(*)[tile_columns])products[i], x, b + i, piece, extras, sums);
    }
  }
}

#define ADD(bits, block, extras)                                                        \
  static void add_##bits##_##block##_##extras(const RoundedRows *x, const Piece *piece, \
                                              Sums sums) {                              \
    add_piece(x, piece, sums, bits, block, extras);                                     \
  }
#define EVERY(bits, block) ADD(bits, block, 0) ADD(bits, block, 1)
EVERY(4, 32) EVERY(4, 64) EVERY(4, 128) EVERY(8, 32) EVERY(8, 64) EVERY(8, 128)

/** However many rows a group has, its memory has room for all. */
#define ALIKE(add) {add, add, add, add, add, add, add, add}
#define BOTH_OF(bits, block) {ALIKE(add_##bits##_##block##_0), ALIKE(add_##bits##_##block##_1)}
static AddTable adds = {{BOTH_OF(4, 32), BOTH_OF(4, 64), BOTH_OF(4, 128)},
                        {BOTH_OF(8, 32), BOTH_OF(8, 64), BOTH_OF(8, 128)}};

const Tiles tiles_amx = {
    .name = "amx-int8",
    .adds = &adds,
    .can_run = may_use_tiles,
    .few = &tiles_vnni,
    .least_rows = 4,
    .begin = begin,
    .end = end,
};
#endif
