#include "product.h"

#include <stdlib.h>
#include <string.h>

enum { alignment = 64, lanes = 8 };

/** Whoever has AVX2 also turns halves into floats (F16C). */
int can_multiply(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

int can_multiply_blocks(int bits, int block) {
  return (bits == 4 || bits == 8) && (block == 32 || block == 64 || block == 128);
}

static size_t aligned(size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

/** Bytes of each part of a group, for GROUP_ROWS rows. */
static size_t values_bytes(const Matrix *w) {
  const size_t blocks = has_pairs(w) ? (w->blocks + 1) / 2 * 2 : w->blocks;
  return aligned(blocks * GROUP_ROWS * (size_t)w->block);
}
static size_t lanes_bytes(const Matrix *w) {
  return has_pairs(w) ? (w->blocks + 1) / 2 * GROUP_ROWS * lanes * sizeof(float) : 0;
}
static size_t floats_bytes(const Matrix *w) {
  return aligned(w->blocks * GROUP_ROWS * sizeof(float));
}
static size_t offsets_bytes(const Matrix *w) {
  return w->bits == 8 ? w->blocks * GROUP_ROWS * lanes * sizeof(int32_t) : 0;
}

size_t rounded_bytes(const Matrix *w) {
  return values_bytes(w) + 2 * floats_bytes(w) + aligned(offsets_bytes(w)) +
         aligned(lanes_bytes(w));
}

RoundedRows rounded_at(const Matrix *w, int rows, void *memory) {
  char *at = memory;
  RoundedRows group = {.rows = rows, .values = (int8_t *)at};
  at += values_bytes(w);
  group.scales = (float *)at;
  at += floats_bytes(w);
  group.sums = (float *)at;
  at += floats_bytes(w);
  group.offsets = (int32_t *)at;
  group.lanes = (float *)(at + aligned(offsets_bytes(w)));
  // What is beyond the last row is multiplied too, and must be a number.
  memset(group.scales, 0, 2 * floats_bytes(w));
  return group;
}

static Tile *tile_of(Tile *const (*tiles)[3][GROUP_ROWS], const Matrix *w, int rows) {
  return tiles[w->bits == 8][block_index(w)][rows - 1];
}

/** Whether two kinds of tiles agree to the last bit on made-up numbers, for all blocks. */
static int agree(Tile *const (*one)[3][GROUP_ROWS], Tile *const (*other)[3][GROUP_ROWS]) {
  enum { inner = 300, outer = 20, max_blocks = 10 };
  static uint8_t data[outer * max_blocks * 128];
  static float scales[outer * max_blocks], mins[outer * max_blocks], x[GROUP_ROWS * inner];
  uint32_t seed = 1;
  for (size_t i = 0; i < sizeof data; i++) data[i] = (seed = seed * 1664525 + 1013904223) >> 24;
  for (size_t i = 0; i < outer * max_blocks; i++) {
    scales[i] = 0.01f + (float)(i % 7) / 100;
    mins[i] = (float)(i % 11) / 10 - 0.7f;
  }
  for (size_t i = 0; i < GROUP_ROWS * inner; i++) x[i] = (float)(i * 37 % 101) - 50;
  int same = 1;
  static const struct {
    int bits, block, has_mins;
  } kinds[] = {{4, 32, 0}, {4, 32, 1}, {4, 64, 0}, {4, 128, 0},
               {8, 32, 0}, {8, 32, 1}, {8, 64, 0}, {8, 128, 0}};
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    const int bits = kinds[k].bits, block = kinds[k].block;
    const size_t blocks = (inner + block - 1) / block;
    const float *offsets = kinds[k].has_mins ? mins : NULL;
    Matrix w = {bits, block, inner, outer, blocks, data, scales, NULL, offsets};
    void *memory = aligned_alloc(alignment, rounded_bytes(&w));
    if (!memory) return 0;
    for (int rows = 1; rows <= GROUP_ROWS; rows++) {
      RoundedRows group = rounded_at(&w, rows, memory);
      for (int m = 0; m < rows; m++) round_row(&w, x + m * inner, m, &group);
      float y[2][GROUP_ROWS * outer];
      const size_t columns = tile_columns - (size_t)rows % 2;
      tile_of(one, &w, rows)(&w, &group, 0, columns, y[0]);
      tile_of(other, &w, rows)(&w, &group, 0, columns, y[1]);
      for (int m = 0; m < rows; m++) {
        const size_t at = (size_t)m * outer, bytes = columns * sizeof(float);
        same &= memcmp(y[0] + at, y[1] + at, bytes) == 0;
      }
    }
    free(memory);
  }
  return same;
}

/** The fastest tiles that this processor can run and that are right on it. */
static Tile *const (*chosen)[3][GROUP_ROWS] = tiles_avx2;

__attribute__((constructor)) static void choose(void) {
  __builtin_cpu_init();
  const int has_vnni = __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
  if (can_multiply() && has_vnni && agree(tiles_avx2, tiles_vnni)) chosen = tiles_vnni;
}

const char *products_name(void) { return chosen == tiles_vnni ? "avx512-vnni" : "avx2"; }

/** Memory for a panel's columns; bytes NULL: there is none. */
static Panel make_panel(const Matrix *w) {
  const size_t blocks = has_pairs(w) ? (w->blocks + 1) / 2 * 2 : w->blocks;
  const size_t bytes = tile_columns * blocks * (size_t)w->block;
  const size_t floats = aligned(tile_columns * blocks / 2 * lanes * sizeof(float));
  const size_t highs = aligned(tile_columns * blocks * sizeof(float));
  char *memory = aligned_alloc(alignment, bytes + (has_pairs(w) ? floats : 0) + highs);
  if (!memory) return (Panel){0};
  return (Panel){
      .bytes = (uint8_t *)memory,
      .highs = (float *)(memory + bytes),
      .lanes = (float *)(memory + bytes + highs),
  };
}

enum {
  /** Bytes of activations that some columns go through before the next columns do. */
  groups_bytes = 192 << 10,
  /** Full groups from which on columns are unpacked once for all of them. */
  worth_a_panel = 2,
};

/** As `multiply`, of full groups; `panel` has no memory where columns are not unpacked before. */
static void multiply_groups(const Matrix *w, const RoundedRows *groups, size_t num_groups,
                            size_t first, size_t last, const Panel *panel, float *y) {
  const int unpacks = panel->bytes != NULL && num_groups >= worth_a_panel;
  const PanelProduct *by = panels_avx2 + block_index(w);
  for (size_t n = first; n < last; n += tile_columns) {
    const size_t end = n + tile_columns < last ? n + tile_columns : last;
    if (unpacks) by->unpack(w, n, end, panel);
    for (size_t g = 0; g < num_groups; g++) {
      float *to = y + g * GROUP_ROWS * w->outer;
      if (unpacks) by->multiply(w, groups + g, panel, n, end, to);
      else tile_of(chosen, w, groups[g].rows)(w, groups + g, n, end, to);
    }
  }
}

void multiply(const Matrix *w, const RoundedRows *groups, size_t num_groups, size_t first,
              size_t last, float *y) {
  const size_t is_partial = num_groups > 0 && groups[num_groups - 1].rows < GROUP_ROWS;
  const size_t full = num_groups - is_partial, fitting = groups_bytes / values_bytes(w);
  // With VNNI neither portions nor panels were measured: it goes over all groups at once.
  const size_t least = chosen == tiles_avx2 ? worth_a_panel : full;
  const size_t at_once = fitting > least ? fitting : least;
  const int unpacks = chosen == tiles_avx2 && w->bits == 4 && full >= worth_a_panel;
  const Panel panel = unpacks ? make_panel(w) : (Panel){0};
  for (size_t g = 0; g < full; g += at_once) {
    const size_t count = full - g < at_once ? full - g : at_once;
    float *to = y + g * GROUP_ROWS * w->outer;
    multiply_groups(w, groups + g, count, first, last, &panel, to);
  }
  free(panel.bytes);
  if (is_partial) {
    float *to = y + full * GROUP_ROWS * w->outer;
    multiply_groups(w, groups + full, 1, first, last, &(Panel){0}, to);
  }
}
