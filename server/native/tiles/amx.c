// Products on processors with AMX: one instruction multiplies 16 rows of x by 16 columns, 64 integers of each.
// W lies in memory as it wants it, but for its centre, which is taken off first, once for all groups.

#include "tiles.h"

#ifdef WITHOUT_AMX // The compiler has no code for it.
static int never(void) { return 0; }
const Tiles tiles_amx = {.name = "amx-int8", .can_run = never};
#else

#include "amx.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

// Two tiles of columns by two blocks: rows are loaded once for both columns.
#define SUMS_00 0
#define SUMS_01 1
#define SUMS_10 2
#define SUMS_11 3
#define X_0 4
#define X_1 5
#define W_0 6
#define W_1 7

enum {
  num_tiles = 8,
  /** Integers of a column, at most, that one instruction goes over. */
  step = 64,
  /** Rows of a pair of groups. */
  pair_rows = 2 * GROUP_ROWS,
};

/** For blocks of so many integers. */
static void begin(int block) {
  const int inner = block < step ? block : step;
  TileShapes shapes = {.palette = 1};
  for (int i = 0; i < num_tiles; i++) {
    shapes.rows[i] = i < W_0 ? pair_rows : inner / 4;
    shapes.row_bytes[i] = i == X_0 || i == X_1 ? inner : 4 * tile_columns;
  }
  tile_shapes(&shapes);
}

static void end(void) { tile_release(); }

/**
 * A piece's integers less their centre: words of eight of 4 bits become two of four each, even places, then
 * odd ones. What comes next is fetched at the same pace.
 */
INLINE void centre(const Piece *piece, int bits, int block) {
  const size_t count = (piece->to - piece->from) * block * bits / 32;
  const Bytes off = (Bytes){} + (uint8_t)piece->centre;
  for (size_t i = 0; i < piece->to - piece->from; i++) {
    __builtin_prefetch(piece->next_scales + i * tile_columns, 0, 2);
  }
  for (size_t i = 0; i < count; i++) {
    const Words all = read_words(piece->words[i]);
    __builtin_prefetch(piece->next + i * sizeof *piece->words, 0, 2);
    if (bits == 8) {
      write_words(piece->centred[i], (Words)((Bytes)all - off));
      continue;
    }
    write_words(piece->centred[2 * i], (Words)((Bytes)(all & 0x0f0f0f0f) - off));
    write_words(piece->centred[2 * i + 1], (Words)((Bytes)(all >> 4 & 0x0f0f0f0f) - off));
  }
}

/** A pair of groups, whose second may lack rows or be missing, and up to two tiles of columns. */
typedef struct {
  const RoundedRows *groups;
  int num_groups;
  const Piece *pieces;
  size_t num_tiles;
  Sums *sums[joint_tiles];
  size_t first_row;
  int has_next; // a pair of groups after it
} Part;
/** Products with a tile of columns, of two blocks. */
typedef int32_t Products[2][pair_rows][tile_columns] __attribute__((aligned(64)));

/** Multiplies `count` blocks, one or two, from b on. */
INLINE void multiply_blocks(const Part *part, size_t b, int count, Products *products, int block) {
  const size_t words = (size_t)block / 4, at = (b - part->pieces->from) * words;
  const RoundedRows *const x = part->groups;
  const int two = part->num_tiles > 1;
  const uint32_t(*const w_0)[tile_columns] = part->pieces[0].centred + at;
  const uint32_t(*const w_1)[tile_columns] = part->pieces[two].centred + at;
  const int8_t *const from = value_at(x, b * block, 0), *const then = value_at(x, (b + 1) * block, 0);
  tile_zero(SUMS_00);
  tile_zero(SUMS_10);
  tile_zero(SUMS_01);
  tile_zero(SUMS_11);
  for (int i = 0; i < block; i += step) {
    tile_load(X_0, from + value_offset(x, i), step_values);
    tile_load(W_0, w_0 + i / 4, sizeof *w_0);
    tile_multiply(SUMS_00, X_0, W_0);
    if (!two) continue;
    tile_load(W_1, w_1 + i / 4, sizeof *w_1);
    tile_multiply(SUMS_10, X_0, W_1);
  }
  for (int i = 0; i < block && count > 1; i += step) {
    tile_load(X_1, then + value_offset(x, i), step_values);
    tile_load(W_0, w_0 + (block + i) / 4, sizeof *w_0);
    tile_multiply(SUMS_01, X_1, W_0);
    if (!two) continue;
    tile_load(W_1, w_1 + (block + i) / 4, sizeof *w_1);
    tile_multiply(SUMS_11, X_1, W_1);
  }
  tile_store(products[0][0], sizeof *products[0][0], SUMS_00);
  if (count > 1) tile_store(products[0][1], sizeof *products[0][1], SUMS_01);
  if (two) tile_store(products[1][0], sizeof *products[1][0], SUMS_10);
  if (two && count > 1) tile_store(products[1][1], sizeof *products[1][1], SUMS_11);
}

/** Numbers of a group's rows or of a piece's columns, from some block on. */
typedef struct {
  const float *x_scales, *x_sums;
  const float (*scales)[tile_columns], (*extras)[tile_columns];
} Numbers;

/**
 * Adds a group's products of `count` blocks with a tile, scaled, and what zeros lie off, in the order of all
 * other processors.
 */
INLINE void add_scaled(const int32_t (*products)[tile_columns], const Numbers *of, int count,
                       int extras, const float (*from)[tile_columns], float *to, size_t to_step) {
  UNROLL for (int m = 0; m < GROUP_ROWS; m++) {
    Floats acc = read_floats(from[m]);
    for (int i = 0; i < count; i++) {
      const int at = i * GROUP_ROWS + m;
      const Floats sum = to_floats(read_integers(products[i * pair_rows + m]));
      acc = fused(sum, read_floats(of->scales[i]) * of->x_scales[at], acc);
      if (extras) acc = fused(read_floats(of->extras[i]), all_of(of->x_sums[at]), acc);
    }
    write_floats(to + m * to_step, acc);
  }
}

/** Apart, so that the compiler addresses all by few registers. */
#define ADD_SCALED(count, extras)                                                         \
  static __attribute__((noinline)) void add_scaled_##count##_##extras(                    \
      const int32_t(*products)[tile_columns], const Numbers *of,                          \
      const float(*from)[tile_columns], float *to, size_t to_step) {                      \
    add_scaled(products, of, count, extras, from, to, to_step);                           \
  }
ADD_SCALED(1, 0) ADD_SCALED(1, 1) ADD_SCALED(2, 0) ADD_SCALED(2, 1)

/** Fetches what two blocks from b on, or the next pair's first ones, have of rows into the first cache. */
INLINE void fetch_rows(const Part *part, size_t b, int block) {
  const Piece *const piece = part->pieces;
  const RoundedRows *const x = part->groups;
  const int8_t *from;
  if (b < piece->to) from = value_at(x, b * block, 0);
  else if (part->has_next) from = value_at(x + 2, piece->from * block, 0);
  else return;
  for (int i = 0; i < 2 * block * pair_rows; i += 64) __builtin_prefetch(from + i, 0, 3);
}

INLINE void add_blocks(const Part *part, size_t b, int count, int block, int extras) {
  Products products[joint_tiles];
  multiply_blocks(part, b, count, products, block);
  fetch_rows(part, b + count, block);
  for (size_t t = 0; t < part->num_tiles; t++) {
    const Piece *const piece = part->pieces + t;
    const size_t slot = b - piece->from, at = b * GROUP_ROWS;
    for (int g = 0; g < part->num_groups; g++) {
      const RoundedRows *const x = part->groups + g;
      const int32_t(*const of_group)[tile_columns] = products[t][0] + g * GROUP_ROWS;
      const Numbers of = {x->scales + at, x->sums + at, piece->scales + slot, piece->extras + slot};
      const int is_end = b + count == piece->to && x->rows == GROUP_ROWS;
      float(*const sums)[tile_columns] = part->sums[t][g];
      float *const to = is_end ? row_of(piece, part->first_row + g * GROUP_ROWS) : *sums;
      const size_t to_step = is_end ? piece->y.step : tile_columns;
      if (count == 1 && !extras) add_scaled_1_0(of_group, &of, sums, to, to_step);
      if (count == 1 && extras) add_scaled_1_1(of_group, &of, sums, to, to_step);
      if (count == 2 && !extras) add_scaled_2_0(of_group, &of, sums, to, to_step);
      if (count == 2 && extras) add_scaled_2_1(of_group, &of, sums, to, to_step);
    }
  }
}

/** Only the rows that a group has. */
INLINE void write_rows(const Part *part, size_t tile, int group) {
  const Piece *const piece = part->pieces + tile;
  for (int m = 0; m < part->groups[group].rows; m++) {
    float *const to = row_of(piece, part->first_row + group * GROUP_ROWS + m);
    write_floats(to, read_floats(part->sums[tile][group][m]));
  }
}

INLINE void add_pieces(const RoundedRows *groups, size_t num_groups, Piece *pieces,
                       size_t num_tiles, AllSums *sums, int bits, int block, int extras) {
  for (size_t t = 0; t < num_tiles; t++) centre(pieces + t, bits, block);
  for (size_t g = 0; g < num_groups; g += 2) {
    const Part part = {
        .groups = groups + g,
        .num_groups = g + 1 < num_groups ? 2 : 1,
        .pieces = pieces,
        .num_tiles = num_tiles,
        .sums = {sums[0] + g, sums[num_tiles - 1] + g},
        .first_row = g * GROUP_ROWS,
        .has_next = g + 2 < num_groups,
    };
    size_t b = pieces->from;
    for (; b + 1 < pieces->to; b += 2) add_blocks(&part, b, 2, block, extras);
    if (b < pieces->to) add_blocks(&part, b, 1, block, extras);
    for (size_t t = 0; t < num_tiles; t++) {
      for (int i = 0; i < part.num_groups; i++) {
        if (part.groups[i].rows < GROUP_ROWS) write_rows(&part, t, i);
      }
    }
  }
}

#define ADD_ALL(bits, block, extras)                                                        \
  static void add_##bits##_##block##_##extras(const RoundedRows *groups, size_t num_groups, \
                                              Piece *pieces, size_t num_tiles,              \
                                              AllSums *sums) {                              \
    add_pieces(groups, num_groups, pieces, num_tiles, sums, bits, block, extras);           \
  }
ADD_TABLE(adds)

const Tiles tiles_amx = {
    .name = "amx-int8",
    .adds = &adds,
    .can_run = may_use_tiles,
    .portion_bytes = 1 << 20,
    .lone = &tiles_vnni,
    .in_pieces = 1,
    .begin = begin,
    .end = end,
};
#endif
