// The table TILES of a processor's products, from its add_piece: included last. How many rows a group has
// is known to the compiler.

#define ADD(bits, block, extras, rows)                                                       \
  static void add_##bits##_##block##_##extras##_##rows(const RoundedRows *x,                 \
                                                       const Piece *piece, Sums sums,        \
                                                       float *to) {                          \
    add_piece(x, piece, sums, to, bits, block, extras, rows);                                \
  }
#define ADD_ALL(bits, block, extras)                                                         \
  ADD(bits, block, extras, 1) ADD(bits, block, extras, 2) ADD(bits, block, extras, 3)        \
  ADD(bits, block, extras, 4) ADD(bits, block, extras, 5) ADD(bits, block, extras, 6)        \
  ADD(bits, block, extras, 7) ADD(bits, block, extras, 8)                                    \
  static void add_##bits##_##block##_##extras(const RoundedRows *groups, size_t num_groups,  \
                                              Piece *pieces, size_t num_tiles,               \
                                              AllSums *sums) {                               \
    static void (*const adds[])(const RoundedRows *, const Piece *, Sums, float *) = {       \
        add_##bits##_##block##_##extras##_1, add_##bits##_##block##_##extras##_2,            \
        add_##bits##_##block##_##extras##_3, add_##bits##_##block##_##extras##_4,            \
        add_##bits##_##block##_##extras##_5, add_##bits##_##block##_##extras##_6,            \
        add_##bits##_##block##_##extras##_7, add_##bits##_##block##_##extras##_8,            \
    };                                                                                       \
    for (size_t g = 0; g < num_groups; g++) {                                                \
      for (size_t t = 0; t < num_tiles; t++) {                                               \
        float *const to = row_of(pieces + t, g * GROUP_ROWS);                                \
        adds[groups[g].rows - 1](groups + g, pieces + t, sums[t][g], to);                    \
        pieces[t].next = NULL;                                                               \
      }                                                                                      \
    }                                                                                        \
  }
ADD_TABLE(adds)
const Tiles TILES = {.name = NAME, .adds = &adds, .can_run = can_run,
                     .portion_bytes = 192 << 10};
