// y = x Wᵀ with W in blocks of 4 or 8 bits, and x rounded to 8 bits a block. Within a block products are summed as integers. A block's sum is scaled and added
// to those of the blocks before it as floats, in their order. So the bits of a result depend neither
// on the processor nor on the other rows.

#ifndef DUTYFREE_PRODUCT_H
#define DUTYFREE_PRODUCT_H

#include <stddef.h>
#include <stdint.h>

/** Rows that are multiplied at once; a batch of more is cut into groups. */
#define GROUP_ROWS 8

/**
 * The matrix W, [outer, inner]. Integers of a row are cut into blocks, each with one scale. Its rows, which are
 * columns of the product, lie side by side: [ceil(outer / 16), words of 32 bits of a row, 16].
 */
typedef struct {
  int bits;             // 4 or 8
  int block;            // integers to a scale: 32, 64 or 128
  size_t inner;         // K
  size_t outer;         // N
  size_t blocks;        // of a row: ceil(inner / block)
  const uint8_t *data;  // a row: blocks · block · bits / 8; 4 bits: even places in the low halves
  const float *scales;  // a row: blocks
  const uint8_t *zeros; // a row: zero_bytes, or NULL: 8 or 128 everywhere
  const float *mins;    // a row: blocks, or NULL; with blocks of 32. Zero is 0 or 128 then, and the min
                        // is added to scale · integer
} Matrix;

/**
 * Up to GROUP_ROWS rows of x in 8 bits; each block of a row has a scale of its own. For weights of
 * 4 bits the four even places of eight come before the four odd ones.
 */
typedef struct {
  int rows;
  size_t step;     // bytes from some values of all rows to the next: of the next group's too, in a pair
  int8_t *values;  // [steps, rows, step_values], of which blocks · block of a row are used
  float *scales;   // [blocks, GROUP_ROWS]: 0 for rows that a group lacks
  float *sums;     // [blocks, GROUP_ROWS]: scale · sum of the block's integers
  int32_t *starts; // [blocks, GROUP_ROWS]: −centre · sum of the block's integers
} RoundedRows;

/** Values of a row that lie side by side; then come those of the other rows. */
enum { step_values = 64 };
/** Where value k of row m lies: k % step_values values from it on are beside it. */
static inline __attribute__((always_inline)) int8_t *value_at(const RoundedRows *x, size_t k,
                                                              int m) {
  return x->values + k / step_values * x->step + m * step_values + k % step_values;
}
/** How far a block's value k lies from its first. */
static inline __attribute__((always_inline)) size_t value_offset(const RoundedRows *x, size_t k) {
  return k / step_values * x->step + k % step_values;
}
/** How far the first value of block b + 1 lies from that of block b. */
static inline __attribute__((always_inline)) size_t to_next_block(const RoundedRows *x, size_t b,
                                                                  int block) {
  if (block >= step_values) return block / step_values * x->step;
  return (b + 1) * block % step_values ? (size_t)block : x->step + block - step_values;
}

/** Whether this processor can multiply here at all. */
int can_multiply(void);
/** Which instructions multiply here. */
const char *products_name(void);
/** Whether there is a product for such blocks. */
int can_multiply_blocks(int bits, int block);

/** The zero that is taken off as an integer; what a block's own lies beyond it is taken off as floats. */
static inline int centre_of(const Matrix *w) { return w->bits == 8 ? 128 : w->mins ? 0 : 8; }

/** Bytes of a row's zeros: whole words. */
static inline size_t zero_bytes(const Matrix *w) {
  return (w->blocks * (size_t)w->bits + 31) / 32 * 4;
}

/** Where a size of blocks stands in a table that is indexed by blocks of 32, 64, 128. */
static inline int block_index(const Matrix *w) {
  return w->block == 32 ? 0 : w->block == 64 ? 1 : 2;
}

/** Groups that so many rows make. */
static inline size_t count_groups(size_t rows) { return (rows + GROUP_ROWS - 1) / GROUP_ROWS; }
/** Groups with room for so many rows, all in one piece that free() takes; NULL: out of memory. */
RoundedRows *create_groups(const Matrix *w, size_t rows);
/** Rounds row m of a group: x [inner]. */
void round_row(const Matrix *w, const float *x, int m, RoundedRows *to);

/** Columns of some rows, `step` numbers from one row to the next. */
typedef struct {
  float *at;
  size_t step;
} Place;

/**
 * Columns [first, last) of the product, to where y begins with the first. All groups but the last are full.
 * A row's result does not depend on the others, nor on the processor.
 */
void multiply(const Matrix *w, const RoundedRows *groups, size_t num_groups, size_t first,
              size_t last, Place y);

/** Columns that are multiplied side by side. */
enum { tile_columns = 16 };

#endif
