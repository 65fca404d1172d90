// y = x Wᵀ with W in blocks of 4 or 8 bits, in the layout of ONNX Runtime's MatMulNBits.

#ifndef DUTYFREE_PRODUCT_H
#define DUTYFREE_PRODUCT_H

#include <stddef.h>
#include <stdint.h>

/** Rows that are multiplied at once; a batch of more is cut into groups. */
#define GROUP_ROWS 8

/** The matrix W, [outer, inner]. Integers of a row are cut into blocks, each with one scale. */
typedef struct {
  int bits;            // 4 or 8
  int block;           // integers to a scale: 32, 64 or 128
  size_t inner;        // K
  size_t outer;        // N
  size_t blocks;       // of a row: ceil(inner / block)
  const uint8_t *data; // [outer, blocks, block · bits / 8]; 4 bits: even places in the low halves
  const float *scales; // [outer, blocks]
  const uint8_t *zeros; // [outer, ceil(blocks · bits / 8)], or NULL: 8 or 128 everywhere
} Matrix;

/**
 * Up to GROUP_ROWS rows of x in 8 bits. Each block of a row has its own scale. With 4-bit weights
 * the even places of 64 (of 32 where a block has no more) come before the odd ones.
 */
typedef struct {
  int8_t *values; // [blocks, rows, block]
  float *scales;  // [blocks, GROUP_ROWS]
  float *sums;    // [blocks, GROUP_ROWS]: scale · sum of the block's integers
} RoundedRows;

/** Bytes that the rounded form of one group takes, aligned. */
size_t rounded_bytes(const Matrix *w);
/** Where the parts of one group lie in that memory. */
RoundedRows rounded_at(const Matrix *w, void *memory);
/** Rounds `rows` ≤ GROUP_ROWS rows of x, [rows, inner]. */
void round_rows(const Matrix *w, const float *x, int rows, RoundedRows to);
/**
 * Columns [first, last) of the product for `rows` rows in groups of GROUP_ROWS, all but the last
 * full: y [rows, outer]. A row's result does not depend on the others.
 */
void multiply(const Matrix *w, const RoundedRows *groups, int rows, size_t first, size_t last,
              float *y);
/** Whether this processor can. */
int can_multiply(void);
/** Whether there is a product for such blocks. */
int can_multiply_blocks(int bits, int block);

#endif
