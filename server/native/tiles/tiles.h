// Some columns of W times some rows: what each kind of processor does in its own instructions.

#ifndef DUTYFREE_TILE_H
#define DUTYFREE_TILE_H

#include "../product.h"

enum {
  /** Groups that columns go through at once, at most. */
  portion_groups = 64,
  /** Integers of a column in a piece that several groups go over, at most: it stays in the first cache. */
  piece_integers = 512,
  /** Tiles of columns that go through groups together: a row's values are fetched once for all. */
  joint_tiles = 2,
  /** Blocks whose zeros are at hand, at most: as many of the smallest as such a piece has. */
  piece_blocks = 16,
};

/** Blocks [from, to) of a tile's columns, side by side. */
typedef struct {
  size_t from, to;
  const uint32_t (*words)[tile_columns]; // [words of a column]: four integers of 8 bits or eight of 4
  const float (*scales)[tile_columns];   // [blocks]
  const float (*extras)[tile_columns];   // [blocks]: what is added to scale · (integer − centre)
  // As much of the next columns, to be fetched meanwhile; NULL: nothing.
  const uint8_t *next;
  const float *next_scales;
  Place y; // where sums go
  int centre; // what integers are taken from
  // Room for integers less the centre, each of 8 bits, for who multiplies those: [piece_integers / 4].
  uint32_t (*centred)[tile_columns];
} Piece;

/** Where a row's sums go, counted from the first group's first. */
static inline float *row_of(const Piece *piece, size_t row) { return piece->y.at + row * piece->y.step; }

/** Sums of a group's rows with the columns of a tile. */
typedef float Sums[GROUP_ROWS][tile_columns] __attribute__((aligned(64)));
/** Those of all groups that columns go through at once. */
typedef Sums AllSums[portion_groups];

/**
 * Adds the pieces of one tile's columns, or of joint ones', times all groups to sums [tile][group], and writes
 * that where the pieces say: to sums, after a column's last piece to the product.
 */
typedef void Add(const RoundedRows *groups, size_t num_groups, Piece *pieces, size_t num_tiles,
                 AllSums *sums);
/** By 8 bits or not; blocks of 32, 64, 128; extras or none. */
typedef Add *const AddTable[2][3][2];
/** That table, from ADD_ALL(bits, block, extras), which defines add_<bits>_<block>_<extras>. */
#define ADD_TABLE(table)                                                                     \
  EACH_BLOCK(ADD_BOTH, 4)                                                                    \
  EACH_BLOCK(ADD_BOTH, 8)                                                                    \
  static AddTable table = {{EACH_BLOCK(NAME_BOTH, 4)}, {EACH_BLOCK(NAME_BOTH, 8)}};
#define EACH_BLOCK(of, bits) of(bits, 32) of(bits, 64) of(bits, 128)
#define ADD_BOTH(bits, block) ADD_ALL(bits, block, 0) ADD_ALL(bits, block, 1)
#define NAME_BOTH(bits, block) {add_##bits##_##block##_0, add_##bits##_##block##_1},

/** A kind of processor. */
typedef struct Tiles Tiles;
struct Tiles {
  const char *name;
  AddTable *adds;
  int (*can_run)(void); // on this processor
  size_t portion_bytes; // of activations that some columns go through before the next columns do
  const Tiles *lone; // who multiplies a lone group; NULL: itself
  int in_pieces;     // even a lone group, as the last of many may be: a piece has to fit in `centred`
  // Before and after a thread's products, with blocks of so many integers; NULL: nothing to do.
  void (*begin)(int block);
  void (*end)(void);
};
extern const Tiles tiles_avx2, tiles_vnni, tiles_amx;

/** Fetches what the next columns have instead of a piece's block `slot`: in the order of memory. */
static inline __attribute__((always_inline)) void fetch_next(const Piece *piece, size_t slot,
                                                             int bytes) {
  if (!piece->next) return;
  const uint8_t *const from = piece->next + slot * tile_columns * bytes;
  // Into the second cache: the first holds what is used now.
  for (int i = 0; i < tile_columns * bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
  __builtin_prefetch(piece->next_scales + slot * tile_columns, 0, 2);
}

#endif
