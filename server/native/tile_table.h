// The table TILES of a processor's products, from its add_from_memory and add_from_panel: included last.

#define ADD(way, bits, block, extras, rows)                                                    \
  static void way##_##bits##_##block##_##extras##_##rows(const Matrix *w, const RoundedRows *x, \
                                                         const Piece *piece,                   \
                                                         const Panel *panel, Sums sums) {      \
    add_from_##way(w, x, piece, panel, sums, bits, block, extras, rows);                       \
  }
#define FEW(way, bits, block, extras)                                                          \
  ADD(way, bits, block, extras, 1) ADD(way, bits, block, extras, 2) ADD(way, bits, block, extras, 3)
#define MANY(way, bits, block, extras)                                                         \
  ADD(way, bits, block, extras, 4) ADD(way, bits, block, extras, 5)                            \
  ADD(way, bits, block, extras, 6) ADD(way, bits, block, extras, 7) ADD(way, bits, block, extras, 8)
#define EVERY(bits, block)                                                                     \
  FEW(memory, bits, block, 0) FEW(memory, bits, block, 1) FEW(panel, bits, block, 0)           \
  FEW(panel, bits, block, 1) MANY(panel, bits, block, 0) MANY(panel, bits, block, 1)
EVERY(4, 32) EVERY(4, 64) EVERY(4, 128) EVERY(8, 32) EVERY(8, 64) EVERY(8, 128)

#define FEW_OF(way, bits, block, extras)                                                       \
  way##_##bits##_##block##_##extras##_1, way##_##bits##_##block##_##extras##_2,                \
      way##_##bits##_##block##_##extras##_3
#define MANY_OF(way, bits, block, extras)                                                      \
  way##_##bits##_##block##_##extras##_4, way##_##bits##_##block##_##extras##_5,                \
      way##_##bits##_##block##_##extras##_6, way##_##bits##_##block##_##extras##_7,            \
      way##_##bits##_##block##_##extras##_8
#define MEMORY_OF(bits, block)                                                                 \
  {{FEW_OF(memory, bits, block, 0)}, {FEW_OF(memory, bits, block, 1)}}
#define PANEL_OF(bits, block)                                                                  \
  {{FEW_OF(panel, bits, block, 0), MANY_OF(panel, bits, block, 0)},                            \
   {FEW_OF(panel, bits, block, 1), MANY_OF(panel, bits, block, 1)}}
static AddTable from_memory = {{MEMORY_OF(4, 32), MEMORY_OF(4, 64), MEMORY_OF(4, 128)},
                               {MEMORY_OF(8, 32), MEMORY_OF(8, 64), MEMORY_OF(8, 128)}};
static AddTable from_panel = {{PANEL_OF(4, 32), PANEL_OF(4, 64), PANEL_OF(4, 128)},
                              {PANEL_OF(8, 32), PANEL_OF(8, 64), PANEL_OF(8, 128)}};
const Tiles TILES = {NAME, turn, &from_memory, &from_panel};
