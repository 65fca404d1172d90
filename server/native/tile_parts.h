// What the products of every kind of processor share: how far they look ahead, and zeros.

#ifndef DUTYFREE_TILE_PARTS_H
#define DUTYFREE_TILE_PARTS_H

#include "product.h"
#include "vectors.h"

enum {
  /** Bytes of a group's activations that some columns go through before the next are read. */
  chunk_bytes = 16 << 10,
  /** How far ahead of its use a weight is fetched. */
  prefetch_bytes = 1 << 10,
};

/** What a block has beside its scale. */
typedef enum { no_offsets, integer_zeros, float_mins } Offsets;

/** How far a block's zero lies from the one that products of 4 bits (0) or 8 bits (128) take off. */
INLINE int zero_beyond(const Matrix *w, int bits, Offsets offsets, size_t n, size_t b) {
  if (bits == 8) return offsets == integer_zeros ? w->zeros[n * w->blocks + b] - 128 : 0;
  if (offsets == no_offsets) return 8;
  return w->zeros[n * ((w->blocks + 1) / 2) + b / 2] >> (b % 2 * 4) & 15;
}

/** What a block's weights lie too high by once its integers are multiplied as they are, or less 128. */
INLINE float too_high(const Matrix *w, int bits, Offsets offsets, size_t n, size_t b, float scale) {
  if (offsets == float_mins) return -w->mins[n * w->blocks + b];
  return scale * (float)zero_beyond(w, bits, offsets, n, b);
}

#endif
