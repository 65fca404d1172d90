// y = x Wᵀ with W in blocks of 4 or 8 bits, in the layout of ONNX Runtime's MatMulNBits, and x rounded
// to 8 bits a block.

#ifndef DUTYFREE_PRODUCT_H
#define DUTYFREE_PRODUCT_H

#include <stddef.h>
#include <stdint.h>

/** Rows that are multiplied at once; a batch of more is cut into groups. */
#define GROUP_ROWS 8

/** The matrix W, [outer, inner]. Integers of a row are cut into blocks, each with one scale. */
typedef struct {
  int bits;             // 4 or 8
  int block;            // integers to a scale: 32, 64 or 128
  size_t inner;         // K
  size_t outer;         // N
  size_t blocks;        // of a row: ceil(inner / block)
  const uint8_t *data;  // [outer, blocks, block · bits / 8]; 4 bits: even places in the low halves
  const float *scales;  // [outer, blocks]
  const uint8_t *zeros; // [outer, ceil(blocks · bits / 8)], or NULL: 8 or 128 everywhere
  const float *mins;    // [outer, blocks], or NULL; with blocks of 32. Zero is 0 or 128 then, and the
                        // min is added to scale · integer
} Matrix;

/**
 * Up to GROUP_ROWS rows of x in 8 bits; each block of a row has a scale of its own. For weights of
 * 4 bits the even places of 64 come before the odd ones, so a vector of halves meets a vector. Blocks of
 * 32 with 4 bits go in pairs: the even places of both, then the odd ones of both.
 */
typedef struct {
  int rows;
  int8_t *values;   // [blocks, rows, block]; pairs: [pairs, rows, 64]
  float *lanes;     // [pairs, rows, 8], pairs only: the first block's scale four times, the second's
  float *scales;    // [blocks, GROUP_ROWS]
  float *sums;      // [blocks, GROUP_ROWS]: scale · sum of the block's integers
  int32_t *offsets; // [blocks, rows, 8], 8 bits only: −128 · sums of four places in each lane
} RoundedRows;

/** Whether this processor can multiply here at all. */
int can_multiply(void);
/** Which instructions multiply here. */
const char *products_name(void);
/** Whether there is a product for such blocks. */
int can_multiply_blocks(int bits, int block);

/** Whether blocks are multiplied in pairs. */
static inline int has_pairs(const Matrix *w) { return w->bits == 4 && w->block == 32; }

/** Where a size of blocks stands in a table that is indexed by blocks of 32, 64, 128. */
static inline int block_index(const Matrix *w) {
  return w->block == 32 ? 0 : w->block == 64 ? 1 : 2;
}

/** Bytes that the rounded form of one group takes; a multiple of 64. */
size_t rounded_bytes(const Matrix *w);
/** Where the parts of a group of `rows` lie in that memory, which is aligned to 64. */
RoundedRows rounded_at(const Matrix *w, int rows, void *memory);
/** Rounds row m of a group: x [inner]. */
void round_row(const Matrix *w, const float *x, int m, RoundedRows *to);

/**
 * Columns [first, last) of the product: y [rows, outer]. All groups but the last are full. A row's
 * result does not depend on the others, nor on the processor.
 */
void multiply(const Matrix *w, const RoundedRows *groups, size_t num_groups, size_t first,
              size_t last, float *y);

/** The product of one group with a few columns, for each kind of processor. */
typedef void Tile(const Matrix *w, const RoundedRows *x, size_t first, size_t last, float *y);
enum { tile_columns = 16 };
/** By 8 bits or not; blocks of 32, 64, 128; rows − 1. */
typedef Tile *const Tiles[2][3][GROUP_ROWS];
extern Tiles tiles_avx2, tiles_vnni;

/** At most tile_columns columns of 4 bits as bytes, in the order in which rows have their values. */
typedef struct {
  uint8_t *bytes; // [columns, steps, width]; a step: a block, or two blocks of 32
  float *lanes;   // [columns, steps, 8], blocks of 32 only: the first's scale four times, the second's
  float *highs;   // [columns, blocks]: what a block's weights lie too high by
} Panel;
/** How columns are unpacked once for several full groups; by blocks of 32, 64, 128. */
typedef struct {
  void (*unpack)(const Matrix *w, size_t first, size_t last, const Panel *to);
  void (*multiply)(const Matrix *w, const RoundedRows *x, const Panel *panel, size_t first,
                   size_t last, float *y);
} PanelProduct;
extern const PanelProduct panels_avx2[3];

#endif
