// The table TILES of a processor's products, from its add_piece: included last.

#define ADD(bits, block, extras, rows)                                                       \
  static void add_##bits##_##block##_##extras##_##rows(const RoundedRows *x,                 \
                                                       const Piece *piece, Sums sums) {      \
    add_piece(x, piece, sums, bits, block, extras, rows);                                    \
  }
#define EACH(bits, block, extras)                                                            \
  ADD(bits, block, extras, 1) ADD(bits, block, extras, 2) ADD(bits, block, extras, 3)        \
  ADD(bits, block, extras, 4) ADD(bits, block, extras, 5) ADD(bits, block, extras, 6)        \
  ADD(bits, block, extras, 7) ADD(bits, block, extras, 8)
#define EVERY(bits, block) EACH(bits, block, 0) EACH(bits, block, 1)
EVERY(4, 32) EVERY(4, 64) EVERY(4, 128) EVERY(8, 32) EVERY(8, 64) EVERY(8, 128)

#define EACH_OF(bits, block, extras)                                                         \
  add_##bits##_##block##_##extras##_1, add_##bits##_##block##_##extras##_2,                  \
      add_##bits##_##block##_##extras##_3, add_##bits##_##block##_##extras##_4,              \
      add_##bits##_##block##_##extras##_5, add_##bits##_##block##_##extras##_6,              \
      add_##bits##_##block##_##extras##_7, add_##bits##_##block##_##extras##_8
#define BOTH_OF(bits, block) {{EACH_OF(bits, block, 0)}, {EACH_OF(bits, block, 1)}}
static AddTable adds = {{BOTH_OF(4, 32), BOTH_OF(4, 64), BOTH_OF(4, 128)},
                        {BOTH_OF(8, 32), BOTH_OF(8, 64), BOTH_OF(8, 128)}};
const Tiles TILES = {.name = NAME, .adds = &adds, .can_run = can_run};
