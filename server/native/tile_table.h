// The table TILES of a processor's products, from its multiply_tile: included last.

#define TILE(bits, block, rows)                                                               \
  static void tile_##bits##_##block##_##rows(const Matrix *w, const RoundedRows *x,           \
                                             size_t first, size_t last, float *y) {           \
    if (block == 32 && w->mins)                                                               \
      multiply_tile(w, x, bits, block, rows, float_mins, first, last, y);                     \
    else if (w->zeros) multiply_tile(w, x, bits, block, rows, integer_zeros, first, last, y); \
    else multiply_tile(w, x, bits, block, rows, no_offsets, first, last, y);                  \
  }
#define TILES_OF(bits, block)                                                                 \
  TILE(bits, block, 1) TILE(bits, block, 2) TILE(bits, block, 3) TILE(bits, block, 4)         \
  TILE(bits, block, 5) TILE(bits, block, 6) TILE(bits, block, 7) TILE(bits, block, 8)
TILES_OF(4, 32) TILES_OF(4, 64) TILES_OF(4, 128) TILES_OF(8, 32) TILES_OF(8, 64) TILES_OF(8, 128)

#define OF(bits, block)                                                                       \
  {tile_##bits##_##block##_1, tile_##bits##_##block##_2, tile_##bits##_##block##_3,           \
   tile_##bits##_##block##_4, tile_##bits##_##block##_5, tile_##bits##_##block##_6,           \
   tile_##bits##_##block##_7, tile_##bits##_##block##_8}
Tiles TILES = {{OF(4, 32), OF(4, 64), OF(4, 128)}, {OF(8, 32), OF(8, 64), OF(8, 128)}};
