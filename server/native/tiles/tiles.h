// Some columns of W times some rows: what each kind of processor does in its own instructions.

#ifndef DUTYFREE_TILE_H
#define DUTYFREE_TILE_H

#include "../product.h"

enum {
  /** Words of a column in a piece that several groups go over, at most: it stays in the first cache. */
  piece_words = 128,
  /** Blocks whose zeros are at hand, at most: as many of the smallest as such a piece has. */
  piece_blocks = 32,
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
  // Room for a piece's integers of 4 bits as ones of 8, for who multiplies those: [2 · piece_words].
  uint32_t (*spread)[tile_columns];
  int is_spread; // they are there
} Piece;

/** Sums of a group's rows with the columns of a tile. */
typedef float Sums[GROUP_ROWS][tile_columns] __attribute__((aligned(64)));

/** Adds a piece's columns times a group's rows. */
typedef void Add(const RoundedRows *x, const Piece *piece, Sums sums);
/** By 8 bits or not; blocks of 32, 64, 128; extras or none; rows − 1. */
typedef Add *const AddTable[2][3][2][GROUP_ROWS];

/** A kind of processor. */
typedef struct Tiles Tiles;
struct Tiles {
  const char *name;
  AddTable *adds;
  int (*can_run)(void); // on this processor
  // Who multiplies groups of fewer rows; NULL: none are too few.
  const Tiles *few;
  int least_rows;
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
